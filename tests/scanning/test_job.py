"""What `run_scan` does, in which order, and what its listener hears however it ends."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bladescan.base.errors import DetectorError, TooManyErrorsError, UsageError
from bladescan.base.exit_codes import ExitCode
from bladescan.base.records import Verdict
from bladescan.scanning.decoder_process import DecoderSettings
from bladescan.scanning.job import OutputOptions, run_scan, scan
from bladescan.scanning.listener import BrokenOff, Listener, Listeners
from bladescan.scanning.scan_options import Decision, ScanOptions

CROPS = DecoderSettings(faces="none")


class Recorder(Listener):
    """Writes down what it hears."""

    def __init__(self, fail_at: str = "", exc: BaseException | None = None) -> None:
        self.heard: list[str] = []
        self.broken: BrokenOff | None = None
        self.last = None
        self._fail_at, self._exc = fail_at, exc

    def _hear(self, what: str) -> None:
        self.heard.append(what)
        if what == self._fail_at and self._exc is not None:
            raise self._exc

    def began(self, run, tally):
        self._hear("began")

    def seen(self, record):
        self._hear(Path(record.source).name)

    def scanned(self):
        self._hear("scanned")

    def broken_off(self, how):
        self.broken = how
        self._hear("broken off")

    def ended(self, summary, scanned_by):
        self._hear("ended")

    def closed(self, summary, run):
        self.last = summary, run
        self._hear("closed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three crops, and a file that is none."""
    folder = tmp_path_factory.mktemp("job") / "crops"
    folder.mkdir()
    rng = np.random.default_rng(3)
    for name in "abd":
        Image.fromarray(rng.integers(0, 256, (224, 224, 3), np.uint8)).save(folder / f"{name}.png")
    (folder / "c.png").write_bytes(b"not an image")
    return folder


def test_a_listener_hears_the_course_of_a_scan(folder, tmp_path):
    ears = Recorder()
    output = OutputOptions(str(tmp_path / "v.jsonl"))
    summary = run_scan(ScanOptions(decoder=CROPS), str(folder), output, Listeners(ears, Listener()))
    assert ears.heard == ["began", "a.png", "b.png", "c.png", "d.png", "scanned", "ended", "closed"]
    assert summary.exit_code == ExitCode.INCOMPLETE and summary.complete
    assert ears.last[0] == summary and ears.last[1].head == "binary"
    rows = [json.loads(line) for line in (tmp_path / "v.jsonl").read_text().splitlines()]
    assert [row["type"] for row in rows] == ["run", *["image"] * 4, "summary"]


def test_a_stream_takes_the_place_of_standard_output(folder):
    stream = io.BytesIO()
    run_scan(ScanOptions(decoder=CROPS), [folder / "a.png"], OutputOptions(format="csv", stream=stream))
    assert stream.getvalue().startswith(b"path,verdict,") and stream.getvalue().count(b"\n") == 2


def test_a_scan_that_cannot_begin_is_closed_all_the_same(folder):
    ears = Recorder()
    with pytest.raises(DetectorError):
        run_scan(ScanOptions(model=Path("missing.onnx")), str(folder), OutputOptions(), ears)
    assert ears.heard == ["closed"]
    summary, run = ears.last
    assert (summary.exit_code, summary.complete, run) == (ExitCode.FAILED, False, None)


def test_ctrl_c_in_a_program_keeps_what_was_finished(folder, tmp_path):
    ears = Recorder("b.png", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run_scan(ScanOptions(decoder=CROPS), str(folder), OutputOptions(str(tmp_path / "v.csv")), ears)
    assert ears.heard == ["began", "a.png", "b.png", "broken off", "closed"]
    kept = str(tmp_path / "v.partial.csv")
    assert ears.broken == BrokenOff("interrupted", "interrupted after 2 images", kept, True, 130)
    assert ears.last[0].exit_code == ExitCode.INTERRUPTED
    assert len(Path(kept).read_text().splitlines()) == 3 and not (tmp_path / "v.csv").exists()


def test_a_limit_of_errors_ends_a_scan_with_a_summary(folder, tmp_path):
    ears = Recorder()
    options = ScanOptions(decoder=CROPS, max_errors=0)
    summary = run_scan(options, str(folder), OutputOptions(str(tmp_path / "v.csv")), ears)
    assert ears.heard == ["began", "a.png", "b.png", "c.png", "broken off", "ended", "closed"]
    assert (summary.exit_code, summary.complete) == (ExitCode.INCOMPLETE, False)


def test_an_error_of_a_listener_ends_the_scan_and_the_old_file_stays(folder, tmp_path):
    path = tmp_path / "v.csv"
    path.write_text("old")
    ears = Recorder("a.png", ValueError("mine"))
    with pytest.raises(ValueError, match="mine"):
        run_scan(ScanOptions(decoder=CROPS), str(folder), OutputOptions(str(path)), ears)
    assert ears.heard[-1] == "closed" and path.read_text() == "old"


def test_scan_yields_records_and_stops_at_the_limit(folder):
    options = ScanOptions(decoder=CROPS, max_errors=0)
    records = []
    with pytest.raises(TooManyErrorsError):
        records.extend(scan(folder, options))
    assert [Path(record.source).name for record in records] == ["a.png", "b.png", "c.png"]
    found = list(scan(folder, ScanOptions(decoder=CROPS)))
    assert [Path(record.source).name for record in found] == ["a.png", "b.png", "c.png", "d.png"]
    assert found[2].verdict is Verdict.UNREADABLE


def test_under_a_discovery_rate_rows_wait_for_the_last_image(folder):
    options = ScanOptions(decision=Decision(fdr=0.5), decoder=CROPS)
    assert len(list(scan(folder, options))) == 4


@pytest.mark.parametrize(
    "make",
    [
        lambda: ScanOptions(cluster="dask:x", n_workers=2),
        lambda: ScanOptions(decision=Decision(false_alarm=0.1, fdr=0.1)),
        lambda: OutputOptions(resume=True),
        lambda: OutputOptions("v.csv", show="new"),
    ],
)
def test_options_that_contradict_each_other_are_an_error_before_any_work(make):
    with pytest.raises(UsageError):
        make()
