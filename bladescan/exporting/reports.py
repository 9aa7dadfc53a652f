"""How far an export is from its detector, as data. It compares nothing."""

from __future__ import annotations

from dataclasses import dataclass

from bladescan.detectors.manifest import HeadName


@dataclass(frozen=True, slots=True)
class ParityReport:
    """How far the exported graph is from the detector, at most, over seeded crops.

    Attributes:
        n_crops: crops compared.
        batch_sizes: in which they were fed.
        embedding: largest absolute difference from PyTorch.
        log_likelihood: largest difference from PyTorch relative to its size, None without that head.
        p_ai_generated: largest absolute difference from PyTorch, None without that head.
        scikit_learn: largest relative difference between the graph's log-likelihood and scikit-learn's
            ``score_samples`` of the graph's own embeddings, None without that head.
        same_for_every_batch_size: whether every row came out bit for bit alike.
    """

    n_crops: int
    batch_sizes: tuple[int, ...]
    embedding: float
    log_likelihood: float | None
    p_ai_generated: float | None
    scikit_learn: float | None
    same_for_every_batch_size: bool


@dataclass(frozen=True, slots=True)
class QuantisationReport:
    """How far the integer detector is from the other, on photographs that set no range.

    Attributes:
        n_calibrating: crops that set the ranges.
        n_compared: crops compared.
        embedding: root mean square of the embedding's error over that of the embedding.
        same_verdict: share of the crops with the same verdict at the detector's own rate, by head.
        flagged_before, flagged_after: share of the crops flagged, by head.
    """

    n_calibrating: int
    n_compared: int
    embedding: float
    same_verdict: dict[HeadName, float]
    flagged_before: dict[HeadName, float]
    flagged_after: dict[HeadName, float]


@dataclass(frozen=True, slots=True)
class EngineReport:
    """What was built, and how far it is from the detector.

    Attributes:
        library: and its version.
        built_for: the device, or compute capabilities when it was built without one.
        n_crops: compared: made up, or for int8 of photographs that set no range.
        graph: relative error of the embedding, the graph run on the CPU; the largest, for int8 the root mean
            square.
        engine: the same of the engine, run on the device; None if there is no device here.
        same_verdict: share of the crops whose verdict stays, by head; for int8.
    """

    library: str
    built_for: str
    n_crops: int
    graph: float
    engine: float | None
    same_verdict: dict[HeadName, float] | None
