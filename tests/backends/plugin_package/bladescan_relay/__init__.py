"""A backend of another package: it counts the crops that it passes on to the ``onnx`` backend."""

from bladescan.runtimes.backend import Backend, BackendStatus
from bladescan.runtimes.registry import get_plugin


class RelayBackend(Backend):
    """Passes everything on, and counts."""

    def __init__(self, inner):
        self.inner = inner
        self.device = inner.device
        self.manifest = inner.manifest
        self.n_crops = 0

    def embed(self, crops):
        return self.inner.embed(crops)

    def score(self, crops):
        scores = self.inner.score(crops)
        self.n_crops += len(crops)
        return scores

    def close(self):
        self.inner.close()


class RelayPlugin:
    """Opens ``.onnx`` detectors."""

    name = "relay"
    suffixes = (".onnx",)

    def status(self):
        return BackendStatus("1.0", get_plugin("onnx").status().devices)

    def open(self, path, settings):
        return RelayBackend(get_plugin("onnx").open(path, settings))


plugin = RelayPlugin()
