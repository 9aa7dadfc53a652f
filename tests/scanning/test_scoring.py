"""Batches under way, on a backend that computes in a thread of its own."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from bladescan_backends.fake import FakeBackend
from PIL import Image

from bladescan.base.errors import BackendError
from bladescan.detectors.manifest import HeadName
from bladescan.detectors.shipped import shipped_detector
from bladescan.scanning.decoder_process import DecoderSettings
from bladescan.scanning.pipeline import Pipeline, ScanSettings
from bladescan.scanning.scoring import CropScores, score_in_batches
from bladescan.sources.source import Source


class Threaded(FakeBackend):
    """Computes in another thread, and only while ``gate`` is open."""

    def __init__(self):
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()
        self.under_way = self.most_under_way = 0
        self._lock, self._thread = threading.Lock(), ThreadPoolExecutor(1)

    def submit(self, crops):
        with self._lock:
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
        return self._thread.submit(self._compute, crops.copy())

    def _compute(self, crops):
        assert self.gate.wait(60)
        scores = self.score(crops)
        with self._lock:
            self.under_way -= 1
        return scores

    def close(self):
        self.gate.set()
        self._thread.shutdown()
        super().close()


@pytest.fixture
def backend():
    opened = Threaded()
    yield opened
    opened.close()


def noise(n):
    return np.random.default_rng(n).integers(0, 256, (n, 224, 224, 3), dtype=np.uint8)


@pytest.mark.parametrize("n", [0, 1, 4, 5, 23])
def test_scores_come_in_the_order_of_the_crops_two_runs_under_way(backend, n):
    expected = FakeBackend().score(noise(n))
    found = score_in_batches(backend, noise(n), 4)
    if n == 0:
        assert found is None
        return
    for values, wanted in zip(found, expected, strict=True):
        np.testing.assert_array_equal(values, wanted)
    assert backend.most_under_way <= 2


def test_scores_under_way_are_not_waited_for(backend):
    backend.gate.clear()
    scores = CropScores(backend, noise(3), 1)
    assert not scores.done()
    backend.gate.set()
    assert len(scores.result().embedding) == 3
    assert scores.done() and scores.seconds > 0


def test_a_backend_that_computes_at_once_has_all_scores_when_asked():
    scores = CropScores(FakeBackend(), noise(9), 2)
    assert scores.done()
    assert len(scores.result().embedding) == 9


def test_a_failure_under_way_is_raised_where_the_scores_are_asked_for(backend):
    FakeBackend.close(backend)
    with pytest.raises(BackendError, match="closed"):
        score_in_batches(backend, noise(3), 1)


@pytest.fixture
def pictures(tmp_path):
    for i in range(12):
        Image.fromarray(noise(12)[i]).save(tmp_path / f"{i:02}.png")
    return [Source(str(path)) for path in sorted(tmp_path.iterdir())]


def settings(head: HeadName = "one-class") -> ScanSettings:
    decoder = DecoderSettings(faces="none")
    return ScanSettings(
        shipped_detector("blades", (".onnx",)),
        "onnx",
        head,
        0.05,
        decoder=decoder,
        batch_size=3,
        n_decoders=2,
    )


def without_cost(records):
    return [replace(record, cost=None) for record in records]


def test_a_scan_has_the_same_rows_whether_or_not_its_backend_computes_at_once(backend, pictures):
    with Pipeline(settings(), FakeBackend()) as pipeline:
        expected = without_cost(pipeline.scan(pictures))
    with Pipeline(settings(), backend) as pipeline:
        assert without_cost(pipeline.scan(pictures)) == expected


def test_a_scan_decodes_the_next_batch_while_one_is_computed(backend, pictures):
    with Pipeline(settings(), backend) as pipeline:
        backend.gate.clear()
        records = pipeline.scan(pictures)
        # Without an overlap no second batch would be handed to the backend before the first one is done.
        threading.Thread(target=open_when_two_wait, args=(backend,)).start()
        assert [record.source for record in records] == [source.name for source in pictures]
    assert backend.most_under_way == 2


def test_a_list_that_stalls_gets_the_rows_of_what_came_before(backend, pictures):
    go_on = threading.Event()

    def listing():
        yield from pictures[:7]
        assert go_on.wait(60)
        yield from pictures[7:]

    with Pipeline(settings(), backend) as pipeline:
        found = []
        for record in pipeline.scan(listing()):
            found.append(record.source)
            if len(found) == 7:
                go_on.set()
    assert found == [source.name for source in pictures]


def open_when_two_wait(backend, seconds=60.0):
    step = threading.Event()
    for _ in range(int(seconds / 0.01)):
        if backend.under_way == 2:
            break
        step.wait(0.01)
    backend.gate.set()
