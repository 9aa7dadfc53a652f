"""A detector: vision encoder, heads and manifest; assembled, saved and loaded as one safetensors file.

Only tensors and JSON are read, never pickle, so a stranger's file cannot run code. Fitting is `fitting`,
other file formats are `export`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from safetensors.torch import save
from torch import Tensor, nn

from bladescan.base.errors import DetectorError
from bladescan.base.output_files import write_file
from bladescan.detectors.calibration import check_calibration
from bladescan.detectors.manifest import (
    GRAPH_ENCODER,
    METADATA_KEY,
    Manifest,
    decode_manifest,
    encode_manifest,
)
from bladescan.heads.classifier import HIDDEN, Classifier
from bladescan.heads.mixture import Mixture, log_constants, log_likelihood
from bladescan.networks.encoders import (
    VISION_ENCODERS,
    VISION_PREFIX,
    check_tensors,
    load_vision_state,
    new_vision_encoder,
    vision_shapes,
    with_prefix,
    without_prefix,
)
from bladescan.networks.vision_encoder import VisionEncoder
from bladescan.networks.weights import read_safetensors

_MIXTURE_PREFIX = "mixture."
_CLASSIFIER_PREFIX = "classifier."
_MAX_STEM_WIDTH = 1024
_MAX_EMBEDDING_DIM = 16384


@dataclass(frozen=True, slots=True, eq=False)
class Detector:
    """Everything a detector file holds.

    Attributes:
        manifest: what it says of itself.
        vision: float32 weights of the encoder by torchvision name.
        mixture: the one-class head, None without.
        classifier: float32 weights of the binary head (``fc1``, ``fc2``), None without; without ``fc1`` it is
            logistic regression.
        graph: the encoder as ONNX if it is a stranger's, from ``crops`` to ``embedding``; then there are no
            weights, and only an exported detector can hold it.
    """

    manifest: Manifest
    vision: dict[str, Tensor]
    mixture: Mixture | None = None
    classifier: dict[str, Tensor] | None = None
    graph: bytes = b""


class DetectorHeads(nn.Module):
    """The heads of a detector as a PyTorch module, which scores in float64.

    Args:
        detector: the heads are copied.
    """

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.mixture = None if detector.mixture is None else _MixtureHead(detector.mixture)
        self.classifier = None if detector.classifier is None else Classifier.of(detector.classifier)
        self.eval()

    def double_heads(self) -> Self:
        """Turn the heads' float32 weights to float64 once, instead of at every call; returns itself."""
        for head in (self.mixture, self.classifier):
            if head is not None:
                head.double()
        return self

    def heads(self, embedding: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Score by both heads: log-likelihood, P(AI-generated); float64 ``[n]``, None for a missing one."""
        x = embedding.double()
        return (
            None if self.mixture is None else self.mixture(x),
            None if self.classifier is None else self.classifier.p_ai_generated(x),
        )


class DetectorModule(DetectorHeads):
    """A detector as one PyTorch module: encoder in float32, heads in float64.

    Args:
        detector: its weights are copied.
        where: the file's name, for errors.

    Raises:
        DetectorError: tensors and manifest do not fit together.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, detector: Detector, *, where: str = "detector") -> None:
        super().__init__(detector)
        manifest = detector.manifest
        self.size = manifest.preprocessing.size
        self.normalise = manifest.encoder.normalise
        self.encoder = build_encoder(manifest, where=where)
        load_vision_state(self.encoder, detector.vision, where=where)
        self.register_buffer("mean", torch.tensor(manifest.preprocessing.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(manifest.preprocessing.std).view(1, 3, 1, 1))
        self.eval()

    def embed(self, crops: Tensor) -> Tensor:
        """Compute embeddings float32 ``[n, d]`` of uint8 RGB crops ``[n, size, size, 3]``."""
        pixels = crops.permute(0, 3, 1, 2).float() / 255
        return self.finish(self.encoder((pixels - self.mean) / self.std))

    def finish(self, embedding: Tensor) -> Tensor:
        """Turn the encoder's output into the embedding: float32, of length 1 if the detector asks for it."""
        embedding = embedding.float()
        if self.normalise:
            # The floor only keeps an all-zero embedding finite.
            embedding = embedding / embedding.square().sum(1, keepdim=True).sqrt().clamp_min(1e-12)
        return embedding

    def forward(self, crops: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor]:
        """Score uint8 RGB crops ``[n, size, size, 3]``.

        Returns:
            Log-likelihood float64 ``[n]``, P(AI-generated) float64 ``[n]`` (None for a missing head),
            embedding float32 ``[n, d]``.
        """
        embedding = self.embed(crops)
        return (*self.heads(embedding), embedding)


class _MixtureHead(nn.Module):
    """The mixture as float32 buffers, which keep an exported file small, computed in float64."""

    constants: Tensor
    means: Tensor
    precisions_cholesky: Tensor

    def __init__(self, mixture: Mixture) -> None:
        super().__init__()
        self.register_buffer("constants", log_constants(mixture.weights_, mixture.precisions_cholesky_))
        self.register_buffer("means", mixture.means_.clone())
        self.register_buffer("precisions_cholesky", mixture.precisions_cholesky_.clone())

    def forward(self, x: Tensor) -> Tensor:
        return log_likelihood(x, self.constants, self.means.double(), self.precisions_cholesky.double())


def build_encoder(manifest: Manifest, *, where: str) -> VisionEncoder:
    """Make an encoder of the manifest's shape, with random weights.

    Raises:
        DetectorError: the manifest asks for a shape out of bounds; a file must not exhaust the memory.
    """
    spec = manifest.encoder
    if spec.name == GRAPH_ENCODER:
        raise DetectorError(f"{where}: its encoder is an ONNX graph, which only an .onnx detector holds")
    if spec.name not in VISION_ENCODERS:
        raise DetectorError(f"{where}: unknown vision encoder {spec.name!r}: it needs a newer bladescan")
    if not (0 < spec.width <= _MAX_STEM_WIDTH and 0 < spec.embedding_dim <= _MAX_EMBEDDING_DIM):
        raise DetectorError(
            f"{where}: encoder width {spec.width}, embedding {spec.embedding_dim}: out of bounds"
        )
    return new_vision_encoder(spec.name, spec.width, spec.embedding_dim)


def validate_detector(detector: Detector, *, where: str) -> None:
    """Raise DetectorError unless the tensors are those that the manifest promises, checked one by one."""
    manifest = detector.manifest
    if not detector.graph:
        # Meta tensors have shapes and no memory, so a lying manifest costs nothing.
        with torch.device("meta"):
            encoder = build_encoder(manifest, where=where)
        check_tensors(detector.vision, vision_shapes(encoder), where=where, prefix=VISION_PREFIX)
    if detector.mixture is not None:
        _check_mixture(detector.mixture, manifest.encoder.embedding_dim, where=where)
    if detector.classifier is not None:
        wanted = _classifier_shapes(detector.classifier, manifest.encoder.embedding_dim)
        check_tensors(detector.classifier, wanted, where=where, prefix=_CLASSIFIER_PREFIX)
    _check_heads(detector, where=where)


def save_detector(detector: Detector, path: Path) -> None:
    """Write a detector beside its name, then rename: a reader never sees half a file.

    Raises:
        DetectorError: tensors and manifest do not fit together.
        OutputError: the file cannot be written.
    """
    if detector.graph:
        raise DetectorError(f"{path.name}: a detector over an ONNX encoder is an .onnx file: use save_fitted")
    validate_detector(detector, where=path.name)
    tensors = {key: value.contiguous() for key, value in _all_tensors(detector).items()}
    header = {METADATA_KEY: encode_manifest(detector.manifest)}
    write_file(path, save(tensors, metadata=header))


def load_detector(path: Path) -> Detector:
    """Read and check a detector.

    Raises:
        DetectorError: the file is missing, truncated, foreign, newer, or does not fit its manifest.
    """
    tensors, text = _read_safetensors(path)
    manifest = decode_manifest(text, where=path.name)
    mixture = without_prefix(tensors, _MIXTURE_PREFIX)
    classifier = without_prefix(tensors, _CLASSIFIER_PREFIX)
    detector = Detector(
        manifest=manifest,
        vision=without_prefix(tensors, VISION_PREFIX),
        mixture=_mixture_from(mixture, where=path.name) if mixture else None,
        classifier=classifier or None,
    )
    if foreign := sorted(set(tensors) - set(_all_tensors(detector))):
        raise DetectorError(f"{path.name}: unexpected tensor {foreign[0]!r}")
    validate_detector(detector, where=path.name)
    return detector


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], str]:
    """Read tensors and manifest text of a file; anything but safetensors of ours is a DetectorError."""
    if path.is_dir():
        raise DetectorError(f"{path}: is a folder, expected a detector file (.safetensors)")
    if path.suffix in (".onnx", ".engine"):
        raise DetectorError(f"{path}: is exported already, expected what it was exported from (.safetensors)")
    if path.suffix in (".cascade", ".combined"):
        raise DetectorError(f"{path}: is made of several detectors, expected one of them (.safetensors)")
    tensors, metadata = read_safetensors(path, where=path.name)
    if METADATA_KEY not in metadata:
        raise DetectorError(f"{path.name}: not a bladescan detector: it has no manifest")
    return tensors, metadata[METADATA_KEY]


def _all_tensors(detector: Detector) -> dict[str, Tensor]:
    mixture = {} if detector.mixture is None else detector.mixture.state()
    return {
        **with_prefix(detector.vision, VISION_PREFIX),
        **with_prefix(mixture, _MIXTURE_PREFIX),
        **with_prefix(detector.classifier or {}, _CLASSIFIER_PREFIX),
    }


def _mixture_from(tensors: Mapping[str, Tensor], *, where: str) -> Mixture:
    for key in ("weights", "means", "precisions_cholesky"):
        if key not in tensors:
            raise DetectorError(f"{where}: tensor {_MIXTURE_PREFIX + key!r} is missing")
    return Mixture(tensors["weights"], tensors["means"], tensors["precisions_cholesky"])


def _check_mixture(mixture: Mixture, d: int, *, where: str) -> None:
    k = mixture.weights_.numel()
    shape = tuple(mixture.precisions_cholesky_.shape)
    if shape not in {(k, d, d), (1, d, d), (k, d)}:
        raise DetectorError(
            f"{where}: tensor 'mixture.precisions_cholesky' has shape {list(shape)}, expected "
            f"[{k}, {d}, {d}], [1, {d}, {d}] or [{k}, {d}]"
        )
    wanted = {"weights": (k,), "means": (k, d), "precisions_cholesky": shape}
    check_tensors(mixture.state(), wanted, where=where, prefix=_MIXTURE_PREFIX)
    factors = mixture.precisions_cholesky_
    diagonal = factors.diagonal(dim1=-2, dim2=-1) if factors.ndim == 3 else factors
    if not (bool((diagonal > 0).all()) and bool((mixture.weights_ > 0).all())):
        raise DetectorError(f"{where}: the mixture has a weight or a precision that is not positive")


def _classifier_shapes(state: Mapping[str, Tensor], d: int) -> dict[str, tuple[int, ...]]:
    if not any(key.startswith("fc1.") for key in state):
        return {"fc2.weight": (2, d), "fc2.bias": (2,)}
    hidden = state["fc1.bias"].numel() if "fc1.bias" in state else HIDDEN
    return {"fc1.weight": (hidden, d), "fc1.bias": (hidden,), "fc2.weight": (2, hidden), "fc2.bias": (2,)}


def _check_heads(detector: Detector, *, where: str) -> None:
    manifest = detector.manifest
    there = {"one-class": detector.mixture is not None, "binary": detector.classifier is not None}
    for name, present in there.items():
        if present != (name in manifest.heads):
            state = "has no tensors" if name in manifest.heads else "has no calibration"
            raise DetectorError(f"{where}: the head {name!r} {state}")
    if (manifest.combination is not None) != ("combined" in manifest.heads):
        raise DetectorError(f"{where}: the head 'combined' goes with a combination, and one is missing")
    default = manifest.default_head
    if (default is None) == bool(manifest.heads) or (default is not None and default not in manifest.heads):
        raise DetectorError(f"{where}: the default head {default!r} is not one of {sorted(manifest.heads)}")
    for name, head in manifest.heads.items():
        check_calibration(head, where=f"{where}: head {name!r}")
