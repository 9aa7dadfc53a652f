"""How a detector is fitted: the settings of its heads and their calibration, and what they may be."""

from __future__ import annotations

from dataclasses import dataclass

from bladescan.base.errors import UnknownNameError, UsageError
from bladescan.detectors.collections import check_unit
from bladescan.detectors.combination import check_rule
from bladescan.fitting.binary_fit import BINARY_HEADS
from bladescan.heads.mixture_fit import COVARIANCES


@dataclass(frozen=True, slots=True)
class FitSettings:
    """How a detector is fitted.

    Attributes:
        covariance: of the mixture: full (the paper), tied, diag, spherical, or auto.
        n_components: of the mixture; with auto at most so many.
        shrinkage: of full and tied covariances towards their diagonal, None for 0, or auto's choice.
        held_out: share of the photographs kept from both heads for their calibration.
        false_alarm: default rate of the detector.
        n_outliers: pseudo-outliers for the binary head, None for as many as AI-generated faces (the paper).
        max_epochs: of the perceptron.
        seed: of every draw.
        binary_head: one of `BINARY_HEADS`; ``auto`` is logistic regression over a stranger's encoder, whose
            embeddings are long and were learned for something else, and the paper's perceptron over ours.
        by: over what the false-alarm rates hold, one of `bladescan.detectors.collections.UNITS`.
        combine: rule by which a third head combines both (`bladescan.detectors.combination`), and decides;
            None for no such head.
    """

    covariance: str = "full"
    n_components: int = 10
    shrinkage: float | None = None
    held_out: float = 0.3
    false_alarm: float = 0.05
    n_outliers: int | None = 0
    max_epochs: int = 100
    seed: int = 0
    binary_head: str = "auto"
    combine: str | None = None
    by: str = "file"


def check_settings(settings: FitSettings, *, binary: bool = True) -> None:
    """Raise UsageError for settings out of range: to be called before hours of embedding.

    Args:
        settings: to check.
        binary: there are AI-generated faces for the binary head.
    """
    if settings.covariance not in ("auto", *COVARIANCES):
        raise UnknownNameError("covariance", settings.covariance, ("auto", *COVARIANCES))
    if settings.binary_head not in BINARY_HEADS:
        raise UnknownNameError("binary head", settings.binary_head, BINARY_HEADS)
    if settings.n_outliers and settings.binary_head == "logistic":
        raise UsageError("pseudo-outliers are for the perceptron: they teach logistic regression nothing")
    check_unit(settings.by)
    if settings.combine is not None:
        check_rule(settings.combine)
        if settings.by != "file":
            raise UsageError(
                f"--by {settings.by} needs photographs that the combination has not seen: fit without it, "
                "and give other photographs to bladescan calibrate"
            )
        if not binary:
            raise UsageError("--combine joins both heads: give AI-generated faces too, for the binary one")
    for what, share in (("held-out share", settings.held_out), ("false-alarm rate", settings.false_alarm)):
        if not 0.0 < share < 1.0:
            raise UsageError(f"the {what} must lie between 0 and 1, got {share:g}")
