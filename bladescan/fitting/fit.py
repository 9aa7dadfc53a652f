"""From embeddings to a calibrated detector: what ``bladescan fit`` computes.

It is pure: embeddings of any backend in, a detector out. It reads no image and writes no file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from bladescan.base.errors import DataError, UnknownNameError, UsageError
from bladescan.detectors.calibration import (
    clopper_pearson,
    compress_calibration,
    false_alarm_interval,
    false_alarm_threshold,
    hold_out,
    needed_photographs,
)
from bladescan.detectors.manifest import CalibratedHead, HeadName
from bladescan.heads.classifier import FEWEST, Classifier, ClassifierFit, fit_classifier
from bladescan.heads.detector import Detector, validate_detector
from bladescan.heads.mixture_fit import COVARIANCES, MixtureFit, fit_mixture

Progress = Callable[[str, int, int], None]
"""Called with the stage (``mixture``, ``classifier``), the steps done and the steps in all."""


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
        max_epochs: of the binary head.
        seed: of every draw.
    """

    covariance: str = "full"
    n_components: int = 10
    shrinkage: float | None = None
    held_out: float = 0.3
    false_alarm: float = 0.05
    n_outliers: int | None = 0
    max_epochs: int = 100
    seed: int = 0


def check_settings(settings: FitSettings) -> None:
    """Raise UsageError for settings out of range: to be called before hours of embedding."""
    if settings.covariance not in ("auto", *COVARIANCES):
        raise UnknownNameError("covariance", settings.covariance, ("auto", *COVARIANCES))
    for what, share in (("held-out share", settings.held_out), ("false-alarm rate", settings.false_alarm)):
        if not 0.0 < share < 1.0:
            raise UsageError(f"the {what} must lie between 0 and 1, got {share:g}")


class Copies(NamedTuple):
    """Embeddings of degraded copies: heads learn from them too, and are calibrated without.

    Attributes:
        photographic: ``[n, c, d]``, c copies of each photograph.
        ai_generated: ``[m, c, d]``, None without AI-generated faces.
    """

    photographic: NDArray[np.float32]
    ai_generated: NDArray[np.float32] | None = None


def fit_detector(
    encoder: Detector,
    photographic: NDArray[np.float32],
    ai_generated: NDArray[np.float32] | None,
    settings: FitSettings,
    *,
    groups: NDArray[Any] | None = None,
    held_out: NDArray[np.bool_] | None = None,
    copies: Copies | None = None,
    provenance: dict[str, Any] | None = None,
    progress: Progress = lambda stage, done, total: None,
) -> Detector:
    """Fit and calibrate the heads of a detector.

    The photographs are split once, by group: both heads are fitted on one part and calibrated on the other.
    What was measured stands in ``manifest.provenance["fit"]``, with lines for the user in its ``notices``.

    Args:
        encoder: gives the encoder and its manifest; heads that it has are replaced.
        photographic: embeddings ``[n, d]`` of photographs.
        ai_generated: embeddings ``[m, d]``, None for a detector without a binary head.
        settings: how to fit.
        groups: ``[n]``, photographs that must not be split apart share a value; None if all stand alone.
        held_out: ``[n]``, the photographs that calibrate; None draws ``settings.held_out`` of them.
        copies: degraded copies of both classes; None for none.
        provenance: joined into the manifest's.
        progress: told of each stage.

    Raises:
        DataError: too few photographs, or embeddings of another encoder.
        UsageError: settings out of range.
    """
    labels = None if groups is None else np.asarray(groups)
    check_settings(settings)
    _check(encoder, photographic, ai_generated, labels)
    held = held_out
    if held is None:
        held = hold_out(len(photographic), settings.held_out, np.random.default_rng(settings.seed), labels)
    _check_held_out(int(held.sum()), settings)
    _check_binary(int((~held).sum()), ai_generated)
    of_photographs, of_ai_generated = copies or (None, None)
    fitted = _with_copies(
        photographic[~held],
        None if of_photographs is None else of_photographs[~held],
        None if labels is None else labels[~held],
    )
    mixture = fit_mixture(
        fitted.embeddings,
        covariance=settings.covariance,
        n_components=settings.n_components,
        shrinkage=settings.shrinkage,
        groups=fitted.groups,
        n_photographs=int((~held).sum()),
        random_state=settings.seed,
        progress=lambda done, total: progress("mixture", done, total),
    )
    scores = mixture.mixture.score_samples(photographic[held])
    heads: dict[HeadName, CalibratedHead] = {"one-class": _one_class_head(mixture, scores)}
    report = _report(mixture, scores, heads["one-class"], held, ai_generated, labels, settings)
    state = None
    if ai_generated is not None:
        shown = _with_copies(ai_generated, of_ai_generated, None)
        classifier = _fit_binary(fitted, shown, mixture, settings, encoder, progress)
        heads["binary"], state = _binary_head(classifier, photographic[held]), classifier.state
    manifest = msgspec.structs.replace(
        encoder.manifest,
        heads=heads,
        default_head="one-class" if state is None else "binary",
        default_false_alarm=settings.false_alarm,
        provenance={**encoder.manifest.provenance, **(provenance or {}), "fit": report},
    )
    detector = Detector(manifest, encoder.vision, mixture.mixture, state)
    validate_detector(detector, where="the fitted detector")
    return detector


def _check(
    encoder: Detector,
    photographic: NDArray[Any],
    ai_generated: NDArray[Any] | None,
    groups: NDArray[Any] | None,
) -> None:
    d = encoder.manifest.encoder.embedding_dim
    for name, part in (("photographic", photographic), ("AI-generated", ai_generated)):
        if part is not None and (part.ndim != 2 or part.shape[1] != d or not np.isfinite(part).all()):
            raise DataError(f"{name} embeddings must be finite [n, {d}], got {list(part.shape)}")
    if groups is not None and groups.shape != (len(photographic),):
        raise DataError(f"{len(photographic)} photographs but groups of shape {list(groups.shape)}")


def _check_held_out(n_held_out: int, settings: FitSettings) -> None:
    needed = needed_photographs(settings.false_alarm)
    if n_held_out < needed:
        raise DataError(
            f"{n_held_out} photographs are held out; a false-alarm rate of {settings.false_alarm:g} needs at "
            f"least {needed}: give about {round(needed / settings.held_out)} photographs or more"
        )


def _check_binary(n_photographs: int, ai_generated: NDArray[Any] | None) -> None:
    """Degraded copies do not count."""
    if ai_generated is None:
        return
    for name, n in (("photographic", n_photographs), ("AI-generated", len(ai_generated))):
        if n < FEWEST:
            raise DataError(f"{n} {name} faces: the binary head needs at least {FEWEST}")


def _one_class_head(fit: MixtureFit, scores: NDArray[np.float64]) -> CalibratedHead:
    settings: dict[str, Any] = dict(fit.shape._asdict())
    if fit.held_out:
        settings["held_out_log_likelihood"] = fit.held_out[0][1]
    return CalibratedHead(compress_calibration(scores), len(scores), settings, fit.paper_threshold)


class _Grouped(NamedTuple):
    """Embeddings ``[n, d]`` and what must not be split apart ``[n]``."""

    embeddings: NDArray[np.float32]
    groups: NDArray[Any]


def _with_copies(
    embeddings: NDArray[np.float32], copies: NDArray[np.float32] | None, groups: NDArray[Any] | None
) -> _Grouped:
    """Faces ``[n, d]``, followed by their copies ``[n, c, d]``; a face and its copies are one group."""
    groups = np.arange(len(embeddings)) if groups is None else groups
    if copies is None:
        return _Grouped(embeddings, groups)
    flat = copies.reshape(-1, copies.shape[-1])
    return _Grouped(
        np.concatenate([embeddings, flat]), np.concatenate([groups, np.repeat(groups, copies.shape[1])])
    )


def _fit_binary(
    photographic: _Grouped,
    ai_generated: _Grouped,
    mixture: MixtureFit,
    settings: FitSettings,
    encoder: Detector,
    progress: Progress,
) -> ClassifierFit:
    return fit_classifier(
        photographic.embeddings,
        ai_generated.embeddings,
        mixture.mixture,
        groups=photographic.groups,
        ai_groups=ai_generated.groups,
        normalise=encoder.manifest.encoder.normalise,
        n_outliers=settings.n_outliers,
        max_epochs=settings.max_epochs,
        random_state=settings.seed,
        progress=lambda done, total: progress("classifier", done, total),
    )


def binary_scores(state: Mapping[str, torch.Tensor], embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
    """The binary head's photographic scores -P(AI-generated) ``[n]``, in float64 as every backend has them.

    Args:
        state: weights ``fc1`` and ``fc2`` of a `Classifier`.
        embeddings: ``[n, d]``.
    """
    hidden, d = state["fc1.weight"].shape
    model = Classifier(d, hidden)
    model.load_state_dict(dict(state))
    with torch.inference_mode():
        found: NDArray[np.float64] = -model.p_ai_generated(
            torch.from_numpy(embeddings.astype(np.float64))
        ).numpy()
    return found


def _binary_head(fit: ClassifierFit, held_out: NDArray[np.float32]) -> CalibratedHead:
    scores = binary_scores(fit.state, held_out)
    settings = {
        "hidden": len(fit.state["fc1.bias"]),
        "n_epochs": fit.n_epochs,
        "validation_loss": fit.validation_loss,
        "n_outliers": fit.n_outliers,
    }
    return CalibratedHead(compress_calibration(scores), len(scores), settings)


def _report(
    mixture: MixtureFit,
    scores: NDArray[np.float64],
    head: CalibratedHead,
    held: NDArray[np.bool_],
    ai_generated: NDArray[Any] | None,
    groups: NDArray[Any] | None,
    settings: FitSettings,
) -> dict[str, Any]:
    """What was measured, as plain JSON values."""
    n = len(scores)
    alarms = int((scores < mixture.paper_threshold).sum())
    return {
        "settings": asdict(settings),
        "n_photographs": len(held),
        "n_fit": len(held) - n,
        "n_held_out": n,
        "n_groups": len(held) if groups is None else len(np.unique(groups)),
        "n_ai_generated": 0 if ai_generated is None else len(ai_generated),
        "false_alarm": settings.false_alarm,
        "false_alarm_interval_95": list(false_alarm_interval(n, settings.false_alarm)),
        "threshold": false_alarm_threshold(head, settings.false_alarm),
        "paper_threshold": mixture.paper_threshold,
        "paper_false_alarm": alarms / n,
        "paper_false_alarm_interval_95": list(clopper_pearson(alarms, n)),
        "tried": [[*shape, value] for shape, value in mixture.held_out[:10]],
        "notices": list(mixture.notices),
    }
