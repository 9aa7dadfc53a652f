"""The pipeline over a real detector and real decoder processes."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bladescan.base.errors import ImageError, UsageError
from bladescan.base.provenance_record import Provenance
from bladescan.base.records import FaceVerdict, FlaggedBy, ImageRecord, Reason, Verdict
from bladescan.detectors.manifest import CalibratedHead, EncoderSpec, Manifest
from bladescan.detectors.shipped import shipped_detector
from bladescan.images.limits import Limits
from bladescan.scanning.decoder_process import DecoderSettings
from bladescan.scanning.judging import Judge, choose_head, declares, judge_image
from bladescan.scanning.pipeline import Pipeline, ScanSettings
from bladescan.scanning.scan_options import ScanOptions
from bladescan.scanning.scanner import Scanner
from bladescan.scanning.workers import chunks, scan_in_processes
from bladescan.sources.source import Source


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Thirty crops, among them three files that are no image."""
    folder = tmp_path_factory.mktemp("crops")
    rng = np.random.default_rng(7)
    for i in range(30):
        pixels = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((230 + i, 230), Image.Resampling.BICUBIC).save(folder / f"{i:02}.jpg")
    for i in (3, 4, 29):
        (folder / f"{i:02}.jpg").write_bytes(b"not an image")
    return folder


@pytest.fixture(scope="module")
def settings():
    return ScanSettings(
        detector=shipped_detector("blades", (".onnx",)),
        backend="onnx",
        head="one-class",
        false_alarm=0.05,
        decoder=DecoderSettings(faces="none"),
        n_decoders=2,
    )


def sources(folder: Path) -> list[Source]:
    return [Source(str(path)) for path in sorted(folder.iterdir())]


def scan(settings: ScanSettings, folder: Path) -> list[ImageRecord]:
    with Pipeline(settings) as scanner:
        return list(scanner.scan(iter(sources(folder))))


@pytest.fixture(scope="module")
def records(settings, folder):
    return scan(settings, folder)


def test_every_source_has_a_record_in_order(records, folder):
    assert [record.source for record in records] == [source.name for source in sources(folder)]
    bad = [i for i, record in enumerate(records) if record.verdict is Verdict.UNREADABLE]
    assert bad == [3, 4, 29]
    assert records[3].reason is Reason.NOT_AN_IMAGE


@pytest.mark.parametrize("batch_size", [1, 5, 32])
def test_records_do_not_depend_on_the_batch(settings, folder, records, batch_size):
    assert scan(replace(settings, batch_size=batch_size), folder) == records


def test_records_do_not_depend_on_the_number_of_processes(settings, folder, records):
    many = replace(settings, n_decoders=1)
    assert list(scan_in_processes(sources(folder), many, 2)) == records


def worker_pids() -> list[int]:
    """Process ids of the loky workers of this process."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):  # a process may end while we look
                parent = (entry / "stat").read_text().rsplit(")", 1)[1].split()[1]
                is_worker = b"loky" in (entry / "cmdline").read_bytes()
                if (
                    int(parent) == os.getpid()
                    and is_worker
                    and b"tracker" not in (entry / "cmdline").read_bytes()
                ):
                    found.append(int(entry.name))
    return sorted(found)


def test_a_killed_worker_costs_no_record(settings, folder, records):
    many = replace(settings, n_decoders=1)
    found, killed = [], []
    for record in scan_in_processes(sources(folder), many, 2):
        found.append(record)
        if len(found) == 3:
            killed = worker_pids()[:1]
            os.kill(killed[0], signal.SIGKILL)
    assert killed
    assert found == records


def test_a_listing_that_stalls_holds_no_record_back(settings, folder):
    go_on = threading.Event()

    def slow():
        yield Source(str(folder / "00.jpg"))
        assert go_on.wait(60)
        yield Source(str(folder / "01.jpg"))

    with Pipeline(replace(settings, batch_size=32)) as scanner:
        records = scanner.scan(slow())
        first = next(records)  # comes although neither the batch nor the window is full
        assert not go_on.is_set()
        go_on.set()
        assert [first.source, *(r.source for r in records)] == [str(folder / f"0{i}.jpg") for i in (0, 1)]


def test_an_error_in_the_listing_ends_the_scan(settings):
    def broken():
        yield Source("x", ImageError(Reason.NOT_FOUND, ""))
        raise UsageError("the list cannot be read")

    with Pipeline(settings) as scanner, pytest.raises(UsageError, match="cannot be read"):
        list(scanner.scan(broken()))


def test_a_listing_is_read_only_so_far_ahead(settings, folder):
    drawn = []

    def endless():
        for i in range(100_000):
            drawn.append(i)
            yield Source(str(folder / "00.jpg"))

    with Pipeline(settings) as scanner:
        records = scanner.scan(endless())
        for _ in range(20):
            next(records)
        time.sleep(0.3)
        assert len(drawn) < 300
        records.close()


def test_a_source_that_listing_gave_up_is_a_record_with_its_reason(settings):
    with Pipeline(settings) as scanner:
        (record,) = scanner.scan([Source("x", ImageError(Reason.PERMISSION_DENIED, "no"))])
    assert (record.verdict, record.reason, record.detail) == (
        Verdict.UNREADABLE,
        Reason.PERMISSION_DENIED,
        "no",
    )


def test_limits_reach_the_decoder(settings, folder):
    small = replace(settings, decoder=DecoderSettings(faces="none", limits=Limits(max_pixels=100)))
    with Pipeline(small) as scanner:
        (record,) = scanner.scan([Source(str(folder / "00.jpg"))])
    assert record.reason is Reason.TOO_MANY_PIXELS


JUDGE = Judge("one-class", CalibratedHead(tuple(float(i) for i in range(99)), 99), 0.05)


def face(p_value: float, verdict: Verdict) -> FaceVerdict:
    return FaceVerdict(0, None, -1.0, None, p_value, verdict, "one-class", 1.0, None, p_value)


def test_an_image_is_ai_generated_if_any_face_is():
    plain, flagged = face(0.5, Verdict.NOT_FLAGGED), face(0.01, Verdict.AI_GENERATED)
    verdicts = [
        judge_image(ImageRecord("x", Verdict.NO_FACE, faces=faces), declares=False).verdict
        for faces in ((), (plain, plain), (plain, flagged))
    ]
    assert verdicts == [Verdict.NO_FACE, Verdict.NOT_FLAGGED, Verdict.AI_GENERATED]


@pytest.mark.parametrize("p,by", [(0.5, "declared"), (0.01, "detector+declared")])
def test_an_image_that_declares_itself_is_ai_generated_and_its_faces_keep_their_verdicts(p, by):
    faces = (face(p, Verdict.AI_GENERATED if p <= 0.05 else Verdict.NOT_FLAGGED),)
    record = judge_image(ImageRecord("x", Verdict.NO_FACE, faces=faces), declares=True)
    assert (record.verdict, record.flagged_by.value, record.faces) == (Verdict.AI_GENERATED, by, faces)
    again = replace(JUDGE, rate=0.001).again(record)
    assert (again.verdict, again.flagged_by) == (Verdict.AI_GENERATED, FlaggedBy.DECLARED)


@pytest.mark.parametrize("word", ["ai-edited", "captured", "none", "invalid", "ai-generated"])
def test_only_what_says_that_it_is_generated_declares_it(word):
    assert declares(Provenance(word)) == (word == "ai-generated")
    assert not declares(None)


def test_judging_again_flags_at_or_below_the_threshold():
    record = ImageRecord(
        "x",
        Verdict.NOT_FLAGGED,
        faces=(face(0.02, Verdict.NOT_FLAGGED), face(0.2, Verdict.NOT_FLAGGED)),
    )
    again = replace(JUDGE, rate=0.02).again(record)
    assert [f.verdict for f in again.faces] == [Verdict.AI_GENERATED, Verdict.NOT_FLAGGED]
    assert again.verdict is Verdict.AI_GENERATED
    assert replace(JUDGE, rate=0.0).again(again).verdict is Verdict.NOT_FLAGGED


def test_a_head_that_the_detector_lacks_is_an_error():
    manifest = Manifest(
        "x", EncoderSpec("resnet18"), heads={"one-class": CalibratedHead((0.0,), 1)}, default_head="one-class"
    )
    assert choose_head(manifest, "auto") == "one-class"
    with pytest.raises(UsageError, match="has no binary head. Available: one-class"):
        choose_head(manifest, "binary")


def test_chunks_grow_and_a_stall_hands_on_what_there_is():
    sources = [Source(str(i)) for i in range(100)]
    found = list(chunks([*sources[:5], None, *sources[5:]]))
    assert [len(chunk) for chunk in found] == [2, 3, 0, 8, 16, 32, 32, 7]
    assert [source for chunk in found for source in chunk] == sources


def test_workers_hold_no_record_back_while_the_listing_stalls(settings, folder):
    go_on = threading.Event()

    def slow():
        yield Source(str(folder / "00.jpg"))
        assert go_on.wait(120)

    records = scan_in_processes(slow(), replace(settings, n_decoders=1), 2)
    assert next(records).source == str(folder / "00.jpg")
    go_on.set()
    assert list(records) == []


def test_workers_draw_only_so_far_ahead_of_a_slow_reader(settings):
    drawn = []

    def endless():
        for i in range(1_000_000):
            drawn.append(i)
            yield Source(f"/nonexistent/{i}")

    records = scan_in_processes(endless(), replace(settings, n_decoders=1), 2)
    for _ in range(3):
        next(records)
    time.sleep(1.0)
    assert len(drawn) < 1000
    records.close()
    assert not worker_pids()


def test_a_source_whose_record_is_known_is_not_read_and_keeps_its_place(tmp_path, settings):
    known = ImageRecord(str(tmp_path / "gone.jpg"), Verdict.NOT_FLAGGED)
    sources = [
        Source(str(tmp_path / "a.jpg")),
        Source(known.source, known=known),
        Source(str(tmp_path / "b.jpg")),
    ]
    with Pipeline(settings) as scanner:
        records = list(scanner.scan(sources))
    assert [record.source for record in records] == [source.name for source in sources]
    assert records[1] == known
    assert records[0].reason is Reason.VANISHED


def test_a_scan_in_this_process_computes_on_the_cores_that_it_may_use(monkeypatch):
    monkeypatch.setattr("bladescan.scanning.scanner.n_cores", lambda: 3)
    job = Scanner(ScanOptions(decoder=DecoderSettings(faces="none")))
    try:
        session = job._pipeline.backend._runs._session
        assert session.get_session_options().intra_op_num_threads == 3
        assert job.settings.runtime.threads == 3
    finally:
        job.close()
