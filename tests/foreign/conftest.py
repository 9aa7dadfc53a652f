from __future__ import annotations

import pytest

from tests.foreign.networks import transformer


@pytest.fixture(scope="session")
def vit(tmp_path_factory):
    """A transformer in PyTorch and the ONNX file of it."""
    network, data = transformer()
    path = tmp_path_factory.mktemp("vit") / "vit.onnx"
    path.write_bytes(data)
    return network, path
