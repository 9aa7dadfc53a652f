"""Photographs to train on, and a run that is finished."""

import pytest
import torch

from bladescan.training.loop import TrainingListener, train
from tests.training.tiny import TINY, fill


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """These models are too small to share among threads."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    index = fill(tmp_path_factory.mktemp("index") / "index.sqlite")
    return index, index.entries()


@pytest.fixture(scope="module")
def finished(photographs, tmp_path_factory):
    index, entries = photographs
    seen, said = [], []
    out = tmp_path_factory.mktemp("runs") / "tiny"
    train(TINY, index, entries, out, listener=TrainingListener(progress=seen.append, say=said.append))
    return out, seen, said
