"""``bladescan report`` and ``scan --report``, as they are called."""

from __future__ import annotations

import contextlib
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from bladescan.reviewing.thumbnail_process import flat_share
from bladescan.reviewing.weak_spots import FLAT_SHARE
from bladescan.scanning.decoder_process import DecoderSettings, Request
from bladescan.scanning.decoders import decoder_pool

pytestmark = pytest.mark.integration


def cards(page) -> list[dict]:
    rows = re.findall(r'<script type="application/json" id="rows-\d+">(.*?)</script>', page.read_text())
    return [card for chunk in rows for card in json.loads(chunk)["cards"]]


@pytest.fixture(scope="module")
def scanned(in_process, samples, tmp_path_factory):
    """A scan of the samples, with its page, as CSV and as JSON Lines."""
    folder = tmp_path_factory.mktemp("scanned")
    shutil.copytree(samples, folder / "samples")
    with contextlib.chdir(folder):
        for suffix, more in (("csv", ["--report", "scan.html"]), ("jsonl", [])):
            done = in_process("scan", "samples", "-o", f"v.{suffix}", "--fail-on", "none", *more)
            assert done.exit_code == 0, done.output
    return folder


@pytest.fixture
def here(scanned, monkeypatch):
    """The folder of that scan, to work in."""
    monkeypatch.chdir(scanned)
    return scanned


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_the_page_of_a_scan_and_that_of_its_verdicts_have_the_same_cards(in_process, here, suffix):
    page = here / f"{suffix}.html"
    done = in_process("report", f"v.{suffix}", "-o", page)
    assert done.exit_code == 0, done.output
    assert cards(page) == cards(here / "scan.html")
    found = {(card["path"], card["face"]): card["verdict"] for card in cards(page)}
    assert found[("samples/cut-off.jpg", None)] == "unreadable"
    assert found[("samples/no-face.webp", None)] == "no-face"
    assert ("samples/two-faces.png", 1) in found and len(found) == len(cards(page))
    assert "<title>Review of v." in page.read_text() and '"curve":{' in page.read_text()


def test_the_page_of_a_scan_to_standard_output_needs_no_file_of_verdicts(bladescan, here):
    done = bladescan("scan", "samples", "--report", "folder", "--fail-on", "none", cwd=here)
    assert done.returncode == 0 and done.stdout.startswith(b"path,verdict"), done.stderr
    assert b"open it in a browser: folder/index.html" in done.stderr
    assert b"Review of a scan" in (here / "folder" / "index.html").read_bytes()


def test_what_is_wrong_is_said_before_any_picture_is_looked_at(in_process, here):
    for arguments, said in (
        (("report", "none.csv", "-o", "r.html"), "none.csv: no such file"),
        (("report", "v.csv", "-o", "none/r.html"), "there is no folder none"),
        (("report", "v.csv", "-o", "samples"), "expected a new or empty folder"),
        (("report", "v.csv", "-o", "r.html", "--max-bytes", "many"), "--max-bytes 'many'"),
        (("scan", "samples", "--report", "none/r.html"), "there is no folder none"),
        (("scan", "samples", "-o", "r.csv", "--report", "r.csv"), "name the same file"),
    ):
        done = in_process(*arguments)
        assert done.exit_code == 2 and said in done.output, (arguments, done.output)
    assert not (here / "r.html").exists()


def test_blur_is_the_page_from_the_start(in_process, here):
    assert in_process("report", "v.csv", "-o", "b.html", "--blur").exit_code == 0
    assert '<html lang="en" class="blurred">' in (here / "b.html").read_text()


def test_hostile_files_cost_their_own_cards_alone(in_process, data_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = sorted(path for path in (data_dir / "hostile").rglob("*") if path.is_file())
    (tmp_path / "names").write_text("".join(f"{path}\n" for path in files[::6]))
    asked = ("--files-from", "names", "-o", "v.jsonl", "--report", "r.html", "--timeout", "20")
    done = in_process("scan", *asked, "--fail-on", "none")
    assert done.exit_code == 0, done.output
    listed = [json.loads(line) for line in (tmp_path / "v.jsonl").read_bytes().splitlines()]
    images = [line for line in listed if line["type"] == "image"]
    found = cards(tmp_path / "r.html")
    shown = [card["path"] for card in found] + [copy["path"] for card in found for copy in card["copies"]]
    assert set(shown) == {image["path"] for image in images} and len(shown) >= len(images)


def test_smooth_is_said_of_smoothed_photographs_and_seldom_of_others(data_dir):
    cv2 = pytest.importorskip("cv2")
    paths = sorted((data_dir / "evaluation" / "photographic").rglob("*.jpg"))[:80]
    with decoder_pool(2, DecoderSettings()) as pool:
        decoded = [pool.submit(Request(str(path).encode())).result() for path in paths]
    crops = [np.frombuffer(d.crops, np.uint8).reshape(-1, 224, 224, 3) for d in decoded]
    plain = np.concatenate(crops)
    smoothed = [cv2.bilateralFilter(np.asarray(Image.fromarray(crop)), 9, 60, 9) for crop in plain]
    marked = [np.mean([flat_share(c) >= FLAT_SHARE for c in part]) for part in (plain, smoothed)]
    assert marked[0] < 0.1 and marked[1] > 0.75, marked
