"""exiftool, where it is installed, reads the same."""

import shutil
from pathlib import Path

import pytest

from benchmarks.quality import exif_agreement
from tests.exif.made import block, jpeg, picture

# -------------------------------------------------------------------------------------- an independent reader


def agreement():
    if shutil.which("exiftool") is None:
        pytest.skip("exiftool is not installed (Debian: libimage-exiftool-perl)")
    return exif_agreement.compare


@pytest.mark.integration
def test_exiftool_reads_the_same_in_photographs(data_dir):
    compare = agreement()
    paths = sorted((data_dir / "photographs").rglob("*.jpg"))[::8]
    assert len(paths) >= 40
    for tag, tally in compare(paths).items():
        assert len(tally.agree) >= 30, tag
        assert (tally.disagree, tally.only_ours, tally.only_exiftool) == ([], [], [])


def test_exiftool_reads_the_same_in_what_is_made_here(tmp_path):
    compare = agreement()
    (tmp_path / "a.jpg").write_bytes(jpeg())
    (tmp_path / "b.png").write_bytes(picture("PNG", exif=block()))
    (tmp_path / "c.webp").write_bytes(picture("WEBP", exif=block()))
    for tally in compare(sorted(tmp_path.iterdir())).values():
        assert [Path(path).name for path in sorted(tally.agree)] == ["a.jpg", "b.png", "c.webp"]
