"""Damaged files: prefixes through the reader, mutations through real decoder processes and a whole scan."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from benchmarks.endurance import mutations
from bladescan.base.errors import ImageError
from bladescan.base.exit_codes import ExitCode
from bladescan.base.records import Reason
from bladescan.images.decoding import decode_image
from bladescan.images.limits import Limits
from bladescan.scanning.decoder_process import DecoderSettings, Request
from bladescan.scanning.decoders import decoder_pool

LIMITS = Limits(max_pixels=4_000_000, max_total_pixels=16_000_000)
CUT = {Reason.TRUNCATED, Reason.EMPTY, Reason.NOT_AN_IMAGE}
"""What a file that is cut off may be called; not-an-image before its signature is whole."""
DAMAGED = DecoderSettings(faces="none", limits=LIMITS, timeout_s=30.0)


@pytest.fixture(scope="module")
def originals() -> list[bytes]:
    return mutations.made_originals()


def picture(kind: str) -> bytes:
    """One to three kilobytes, with EXIF where the format has it."""
    noise = np.random.default_rng(5).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    image = Image.fromarray(noise).resize((36, 27), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x0110] = 6, "maker", "model"
    options = {} if kind == "GIF" else {"exif": exif}
    out = io.BytesIO()
    image.save(out, kind, **options)
    assert 500 < len(out.getvalue()) < 4000
    return out.getvalue()


def frames(data: bytes) -> list[np.ndarray]:
    return [pixels for _, pixels in decode_image(data, LIMITS).frames]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
def test_every_prefix_is_cut_off_or_the_whole_picture(kind):
    data = picture(kind)
    (whole,) = frames(data)
    n_read = 0
    for length in range(len(data)):
        try:
            (pixels,) = frames(data[:length])
        except ImageError as exc:
            assert exc.reason in CUT, (length, exc.reason, exc.detail)
        else:
            np.testing.assert_array_equal(pixels, whole, err_msg=f"{length} of {len(data)} bytes")
            n_read += 1
    # In a PNG checksums and an empty last chunk follow the pixels.
    assert n_read <= (24 if kind == "PNG" else 0)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
@settings(max_examples=60, derandomize=True)
@given(places=st.lists(st.tuples(st.floats(0, 0.999), st.binary(max_size=12)), min_size=1, max_size=4))
def test_whatever_is_written_over_a_file_it_is_an_image_error_or_a_picture(kind, places):
    data = bytearray(picture(kind))
    for where, written in places:
        at = int(where * len(data))
        data[at : at + len(written)] = written
    try:
        assert all(pixels.dtype == np.uint8 and pixels.shape[2] == 3 for pixels in frames(bytes(data)))
    except ImageError as exc:
        assert exc.detail


def through_decoders(files: list[bytes]) -> list[Reason | None]:
    with decoder_pool(2, DAMAGED) as pool:
        answers = [pool.submit(Request(b"x", data)) for data in files]
        return [answer.result().reason for answer in answers]


def test_a_seed_always_damages_in_the_same_way(originals):
    first = [mutations.mutant(seed, originals) for seed in range(50)]
    assert first == [mutations.mutant(seed, originals) for seed in range(50)]
    assert len(set(first)) > 40


def test_made_and_damaged_files_each_get_an_answer(originals):
    found = through_decoders([mutations.mutant(seed, originals) for seed in range(400)])
    assert not set(found) & {Reason.TIMEOUT, Reason.DECODER_CRASHED}
    assert {None, Reason.TRUNCATED, Reason.CORRUPT} <= set(found)


@pytest.mark.integration
def test_hostile_files_damaged_further_each_get_an_answer(data_dir):
    files = mutations.originals(data_dir / "hostile")
    found = through_decoders([mutations.mutant(seed, files) for seed in range(400)])
    assert not set(found) & {Reason.TIMEOUT, Reason.DECODER_CRASHED}
    assert {None, Reason.TRUNCATED, Reason.CORRUPT, Reason.TOO_MANY_PIXELS} <= set(found)


@pytest.mark.integration
def test_a_scan_of_damaged_files_has_a_row_for_each(bladescan, originals, tmp_path):
    for seed in range(2000, 2100):
        (tmp_path / f"{seed}.jpg").write_bytes(mutations.mutant(seed, originals))
    done = bladescan("scan", ".", "--workers", "2", "--format", "csv", cwd=tmp_path)
    assert done.returncode == ExitCode.FLAGGED_AND_INCOMPLETE and b"Traceback" not in done.stderr
    rows = list(csv.DictReader(io.StringIO(done.stdout.decode())))
    names = list(dict.fromkeys(row["path"] for row in rows))
    assert names == [f"./{seed}.jpg" for seed in range(2000, 2100)]
    assert all(bool(row["reason"]) == (row["verdict"] == "unreadable") for row in rows)
    assert not [row for row in rows if row["reason"] in ("timeout", "decoder-crashed")]
