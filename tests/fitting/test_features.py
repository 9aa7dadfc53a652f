"""Faces of folders are the faces of a scan, with what is known of them."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from PIL import Image

from bladescan.faces.crops import crop_square, whole_crop
from bladescan.fitting.degraded_copies import degraded_copies
from bladescan.fitting.features import embed_images
from bladescan.runtimes.backend import BackendSettings
from bladescan.runtimes.registry import choose_plugin, default_detector
from bladescan.scanning.cut_faces import Faces, cut_faces
from bladescan.scanning.decoder_process import DecoderSettings
from bladescan.scanning.decoders import decoder_pool
from bladescan.sources.listing import list_sources
from bladescan.sources.query import SourceQuery
from bladescan.sources.source import Source


def cut(sources, faces: str, seen: list[int] | None = None) -> Faces:
    with decoder_pool(1, DecoderSettings(faces=faces)) as pool:
        return cut_faces(sources, pool, progress=(seen if seen is not None else []).append)


@pytest.fixture(scope="module")
def found(samples) -> Faces:
    # Without the picture that is another one turned: a fit leaves copies out.
    query = SourceQuery((str(samples),), exclude=("sideways.jpg",))
    return cut(list_sources(query, stdin=None), "auto")


def test_every_face_is_kept_with_the_image_it_came_from(found, samples):
    assert len(found.crops) == len(found.crop_sides) == len(found.images)
    assert found.images.tolist() == sorted(found.images.tolist())
    assert set(found.images.tolist()) == set(range(len(found.names)))
    assert sum(found.skipped.values()) == 4 - len(found.names)
    assert found.skipped == {"no-face": 1, "truncated": 1}


def test_the_side_is_that_of_the_square_that_was_cut(found):
    for index, decoded in enumerate(found.decoded):
        squares = [crop_square(face.box, decoded.width, decoded.height) for face in decoded.faces]
        expected = [x1 - x0 for x0, _, x1, _ in squares]
        np.testing.assert_allclose(found.crop_sides[found.images == index], expected)


def test_an_image_that_is_a_crop_has_the_side_of_its_shorter_edge(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (300, 200, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    seen: list[int] = []
    only = cut([Source(str(tmp_path / "x.png"))], "none", seen)
    assert only.crop_sides.tolist() == [200.0] and seen == [1]
    assert np.array_equal(only.crops[0], whole_crop(pixels))
    assert (only.decoded[0].format, only.decoded[0].width, only.decoded[0].height) == ("PNG", 200, 300)


def test_no_face_is_no_error_and_no_crop(tmp_path):
    nothing = cut([Source(str(tmp_path / "missing.jpg"))], "none")
    assert nothing.crops.shape == (0, 224, 224, 3) and nothing.skipped == {"vanished": 1}


def test_the_crops_are_those_that_are_embedded(found):
    path = default_detector()
    backend = choose_plugin("auto", path).open(path, BackendSettings("cpu"))
    features = embed_images([Source(name) for name in found.names], backend, DecoderSettings())
    np.testing.assert_allclose(features.embeddings, backend.embed(found.crops), atol=1e-5)
    assert features.groups.tolist() == [found.names[i] for i in found.images]


def test_copies_stand_beside_their_face_and_come_again_with_their_seed(found):
    backend = choose_plugin("auto", default_detector()).open(default_detector(), BackendSettings("cpu"))
    sources = [Source(name) for name in found.names]
    first, again, other = (
        embed_images(sources, backend, DecoderSettings(), n_copies=2, seed=seed) for seed in (1, 1, 2)
    )
    n, d = first.embeddings.shape
    assert first.copies.shape == (n, 2, d)
    np.testing.assert_array_equal(first.copies, again.copies)
    assert not np.array_equal(first.copies, other.copies)
    naive = []
    for image in range(len(found.names)):
        crops = found.crops[found.images == image]
        digest = int.from_bytes(hashlib.sha256(crops.tobytes()).digest()[:8])
        rng = np.random.default_rng([1, digest])
        naive.append(np.stack([backend.embed(degraded_copies(crops, rng)) for _ in range(2)], 1))
    np.testing.assert_allclose(first.copies, np.concatenate(naive), atol=1e-5)
    assert embed_images(sources, backend, DecoderSettings()).copies.shape == (n, 0, d)
    # Whatever else is learned from, and in whatever order.
    last = embed_images(sources[-1:], backend, DecoderSettings(), n_copies=2, seed=1)
    np.testing.assert_array_equal(last.copies, first.copies[found.images == len(found.names) - 1])
