"""Embeddings that are kept: found again for the same picture made the same way, and for no other."""

from __future__ import annotations

import os
import sqlite3

import numpy as np
import pytest
from PIL import Image

from bladescan.base.errors import BackendError, DataError
from bladescan.fitting.embedding_file import open_embedding_file
from bladescan.fitting.features import embed_images
from bladescan.fitting.job import FitOptions, load_encoder, made_with
from bladescan.runtimes.backend import BackendSettings
from bladescan.runtimes.registry import choose_plugin, default_detector
from bladescan.scanning.decoder_process import DecoderSettings
from bladescan.sources.source import Source

DECODER = DecoderSettings(faces="none")


@pytest.fixture
def pictures(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(3):
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).save(tmp_path / f"{i}.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    return [Source(str(tmp_path / name)) for name in ("0.png", "broken.png", "1.png", "2.png")]


@pytest.fixture(scope="module")
def backend():
    path = default_detector()
    return choose_plugin("auto", path).open(path, BackendSettings("cpu"))


class NoBackend:
    """Embeds nothing: whoever asks it has not found what is kept."""

    def embed(self, crops):
        raise BackendError("asked to embed")


def embedded(pictures, path, backend, made_with="a"):
    with open_embedding_file(path, {"made_with": made_with}) as known:
        return embed_images(pictures, backend, DECODER, n_copies=1, known=known)


def test_a_second_time_nothing_is_embedded_and_everything_is_the_same(tmp_path, pictures, backend):
    first = embedded(pictures, tmp_path / "e", backend)
    again = embedded(pictures, tmp_path / "e", NoBackend())
    plain = embed_images(pictures, backend, DECODER, n_copies=1)
    for other in (again, plain):
        np.testing.assert_array_equal(first.embeddings, other.embeddings)
        np.testing.assert_array_equal(first.copies, other.copies)
        assert (first.groups == other.groups).all()
        assert (first.skipped, first.n_images, first.finder) == (other.skipped, other.n_images, other.finder)
    assert first.skipped == {"not-an-image": 1}


def test_what_is_new_or_has_changed_is_embedded_in_its_place(tmp_path, pictures, backend):
    embedded(pictures[1:], tmp_path / "e", backend)
    every = embedded(pictures, tmp_path / "e", backend)
    np.testing.assert_array_equal(every.embeddings, embed_images(pictures, backend, DECODER).embeddings)
    picture = pictures[2].name
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(picture)
    os.utime(picture, ns=(1, 1))
    with pytest.raises(BackendError, match="asked to embed"):
        embedded(pictures, tmp_path / "e", NoBackend())
    changed = embedded(pictures, tmp_path / "e", backend)
    assert not np.array_equal(changed.embeddings[1], every.embeddings[1])
    np.testing.assert_array_equal(changed.embeddings[[0, 2]], every.embeddings[[0, 2]])


def test_another_way_of_making_them_finds_nothing(tmp_path, pictures, backend):
    embedded(pictures, tmp_path / "e", backend)
    with pytest.raises(BackendError, match="asked to embed"):
        embedded(pictures, tmp_path / "e", NoBackend(), made_with="b")


def test_a_file_of_something_else_is_refused_and_left_alone(tmp_path, pictures, backend):
    (tmp_path / "text").write_text("a letter" * 100)
    with pytest.raises(DataError, match="cannot be used to keep embeddings"):
        embedded(pictures, tmp_path / "text", backend)
    with sqlite3.connect(tmp_path / "ledger") as db:
        db.execute("CREATE TABLE other (x)")
    with pytest.raises(DataError, match="is no file of embeddings of this bladescan"):
        embedded(pictures, tmp_path / "ledger", backend)
    assert (tmp_path / "text").read_text() == "a letter" * 100


def test_how_they_are_made_is_the_same_text_in_every_process():
    """A set of formats, written down as it comes, would have another order in each."""
    import json

    encoder = load_encoder("default")
    made = made_with(FitOptions(), encoder, DECODER, 2)
    assert json.dumps(made, sort_keys=True).count("JPEG") == 1 and made["limits"]["formats"] == sorted(
        DECODER.limits.formats
    )
    assert made != made_with(FitOptions(), encoder, DecoderSettings(min_face=64), 2)
