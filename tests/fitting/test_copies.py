"""Images that are there twice count once, and none is of two classes."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bladescan.base.errors import DataError
from bladescan.fitting.copies import EXACT, NEAR, Identity, SeenImages
from bladescan.fitting.features import embed_images
from bladescan.runtimes.backend import BackendSettings
from bladescan.runtimes.registry import choose_plugin, default_detector
from bladescan.scanning.decoder_process import DecoderSettings
from bladescan.sources.source import Source


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four pictures; of the first a copy under another name, one at half the size, and one as JPEG 60."""
    folder = tmp_path_factory.mktemp("copies")
    rng = np.random.default_rng(2)
    for i in range(4):
        small = rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)
        Image.fromarray(small).resize((300, 300), Image.Resampling.BICUBIC).save(folder / f"{i}.png")
    with Image.open(folder / "0.png") as first:
        first.resize((150, 150)).save(folder / "half.png")
        first.save(folder / "jpeg.jpg", quality=60)
    shutil.copy(folder / "0.png", folder / "equal.png")
    return folder


@pytest.fixture(scope="module")
def backend():
    opened = choose_plugin("auto", default_detector()).open(default_detector(), BackendSettings("cpu"))
    yield opened
    opened.close()


def embed(backend, paths, **options):
    sources = [Source(str(path)) for path in paths]
    return embed_images(sources, backend, DecoderSettings(faces="none"), **options)


def test_of_copies_the_first_is_kept_and_the_rest_are_said(backend, folder):
    found = embed(backend, sorted(folder.iterdir()))
    assert [Path(group).name for group in found.groups] == ["0.png", "1.png", "2.png", "3.png"]
    assert found.skipped == {EXACT: 1, NEAR: 2}
    (notice,) = found.notices
    assert notice.startswith("copies are left out: 1 equal file and 2 that look alike (for example ")
    assert f"{folder / 'equal.png'} and {folder / '0.png'}" in notice


def test_without_copies_nothing_is_said(backend, folder):
    found = embed(backend, [folder / "0.png", folder / "1.png"])
    assert (found.skipped, found.notices) == ({}, ())


def test_a_photograph_that_calibrates_is_no_copy_of_one_that_is_learned(backend, folder):
    seen = SeenImages()
    embed(backend, [folder / "0.png"], seen=seen)
    held = embed(backend, [folder / "1.png", folder / "jpeg.jpg"], seen=seen)
    assert len(held.groups) == 1 and held.skipped == {NEAR: 1}


def test_a_file_of_two_classes_is_refused_and_one_that_looks_alike_is_said(backend, folder):
    ours = SeenImages()
    embed(backend, [folder / "0.png", folder / "1.png"], seen=ours)
    with pytest.raises(DataError, match=r"in both are 1 equal file \(for example .*equal.png and .*0.png\)"):
        embed(backend, [folder / "2.png", folder / "equal.png"], apart_from=ours)
    found = embed(backend, [folder / "2.png", folder / "half.png"], apart_from=ours)
    assert len(found.groups) == 2
    assert "both the photographs and the AI-generated images are 1 that looks alike" in found.notices[0]


def test_pictures_of_one_colour_are_no_copies_of_each_other():
    seen = SeenImages()
    seen.add("white", Identity(sha256=b"a", likeness=0))
    assert seen.find("black", Identity(sha256=b"b", likeness=0)) is None
    assert seen.find("white again", Identity(sha256=b"a", likeness=0)).kind == EXACT


@pytest.mark.parametrize("bits,near", [(0, True), (4, True), (5, False)])
def test_what_looks_alike_differs_in_four_bits_at_most(bits, near):
    rng = np.random.default_rng(bits)
    seen = SeenImages()
    hashes = [int(rng.integers(1, 2**63)) for _ in range(200)]
    for index, likeness in enumerate(hashes):
        seen.add(str(index), Identity(sha256=b"%d" % index, likeness=likeness))
    for index, likeness in enumerate(hashes):
        flipped = likeness
        for bit in rng.permutation(64)[:bits]:
            flipped ^= 1 << int(bit)
        found = seen.find("x", Identity(sha256=b"x", likeness=flipped))
        assert (found is not None) == near and (not near or found.of == str(index))
