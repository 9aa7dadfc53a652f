"""From embeddings to a calibrated detector: the fit of both heads and their calibration.

It is pure: embeddings of any backend in, a detector out. It reads no image and writes no file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from bladescan.base.errors import DataError, UsageError
from bladescan.detectors.calibration import (
    clopper_pearson,
    compress_calibration,
    false_alarm_threshold,
    hold_out,
    needed_photographs,
)
from bladescan.detectors.collections import (
    Collections,
    calibrate_by,
    check_unit,
    find_collections,
    left_out_told,
    promised,
)
from bladescan.detectors.manifest import CalibratedHead, CalibrationUnit, Combination, HeadName
from bladescan.detectors.measured import rates_by_source
from bladescan.detectors.neighbours import make_neighbours
from bladescan.detectors.tile_scores import join_log_likelihoods, join_probabilities, tile_counts
from bladescan.fitting.binary_fit import BinaryFit, binary_scores, fit_binary
from bladescan.fitting.combining import combine_heads
from bladescan.fitting.fit_settings import FitSettings, check_settings
from bladescan.foreign.tails import fit_tails, normal_scores, with_tails
from bladescan.heads.classifier import FEWEST, ClassifierSettings, Grouped
from bladescan.heads.detector import Detector, validate_detector
from bladescan.heads.mixture import Mixture
from bladescan.heads.mixture_fit import MixtureFit, fit_mixture
from bladescan.heads.standard import Standard

Progress = Callable[[str, int, int], None]
"""Called with the stage (``mixture``, ``classifier``), the steps done and the steps in all."""


class DegradedCopies(NamedTuple):
    """Embeddings of degraded copies: heads learn from them too, and are calibrated without.

    Attributes:
        photographic: ``[n, c, d]``, c copies of each photograph; None for none.
        ai_generated: ``[m, c, d]``; None for none.
    """

    photographic: NDArray[np.float32] | None = None
    ai_generated: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class FitFaces:
    """The embeddings that a detector is fitted on.

    Attributes:
        photographic: of photographs ``[n, d]``.
        ai_generated: ``[m, d]``, None for a detector without a binary head.
        groups: ``[n]``, photographs that must not be split apart share a value; None if all stand alone.
        held_out: bool ``[n]``, the photographs that calibrate; None draws a share of them.
        copies: degraded copies of both classes.
        pictures: ``[n]``, of a detector of whole pictures: the picture of each tile, whose tiles follow each
            other; the scores of a picture's tiles are joined before they calibrate. None for faces.
        sources: ``[n]``, where each photograph comes from, for the rates measured on others; None if unknown.
            By folders, they are the folders.
    """

    photographic: NDArray[np.float32]
    ai_generated: NDArray[np.float32] | None = None
    groups: NDArray[Any] | None = None
    held_out: NDArray[np.bool_] | None = None
    copies: DegradedCopies = DegradedCopies()
    sources: NDArray[np.str_] | None = None
    pictures: NDArray[Any] | None = None


def fit_detector(
    encoder: Detector,
    faces: FitFaces,
    settings: FitSettings,
    *,
    provenance: dict[str, Any] | None = None,
    progress: Progress = lambda stage, done, total: None,
) -> Detector:
    """Fit and calibrate the heads of a detector.

    The photographs are split once, by group: both heads are fitted on one part and calibrated on the other.
    What was measured stands in ``manifest.provenance["fit"]``, with lines for the user in its ``notices``.

    Args:
        encoder: gives the encoder and its manifest; heads that it has are replaced.
        faces: what to fit on.
        settings: how to fit.
        provenance: joined into the manifest's.
        progress: told of each stage.

    Raises:
        DataError: too few photographs, or embeddings of another encoder.
        UsageError: settings out of range.
    """
    held = _held_out(encoder, faces, settings)
    calibration = _calibration(faces, held, settings)
    if encoder.graph and encoder.manifest.encoder.embedding_dim == 1:
        encoder, faces, settings = _two_tailed(encoder, faces, held, settings)
    photographs = _photographs(faces, ~held)
    generated = None
    if faces.ai_generated is not None:
        generated = _with_copies(faces.ai_generated, faces.copies.ai_generated, None)
    spaces = _spaces(encoder, photographs, generated, settings)
    standardised = _fit_mixture(photographs, spaces.mixture, int((~held).sum()), settings, progress)
    mixture = _folded(standardised, spaces.mixture)
    join, counts = encoder.manifest.picture_rule.join, _tiles(faces, held)
    scores = mixture.mixture.score_samples(faces.photographic[held])
    scores = scores if counts is None else join_log_likelihoods(scores, counts, join)
    heads: dict[HeadName, CalibratedHead] = {
        "one-class": calibration.of(scores, _one_class_head(mixture, scores))
    }
    report = _report(mixture, scores, heads["one-class"], faces, settings, calibration.collections)
    by_head: dict[HeadName, NDArray[np.float64]] = {"one-class": scores}
    state = None
    if generated is not None:
        drawn_from = standardised.mixture
        state, about = _fit_binary(photographs, generated, spaces, drawn_from, settings, encoder, progress)
        scores = binary_scores(state, faces.photographic[held])
        scores = scores if counts is None else -join_probabilities(-scores, counts, join)
        by_head["binary"] = scores
        heads["binary"] = calibration.of(scores, _binary_head(scores, about))
    provenance = {**(provenance or {}), "fit": report}
    combination = _combination(settings, heads, by_head, report)
    parts = (heads, combination, mixture.mixture, state)
    detector = _assembled(encoder, *parts, settings.false_alarm, provenance)
    if counts is None:
        kept = make_neighbours(faces.photographic[held])
        detector = replace(detector, manifest=msgspec.structs.replace(detector.manifest, neighbours=kept))
    return _measured(detector, by_head, faces, held, settings)


def _held_out(encoder: Detector, faces: FitFaces, settings: FitSettings) -> NDArray[np.bool_]:
    """Tell which photographs calibrate, or raise where nothing can be fitted."""
    check_settings(settings, binary=faces.ai_generated is not None)
    if settings.combine is not None and encoder.manifest.subject == "image":
        raise UsageError("--combine joins scores of faces: leave it out with --subject image")
    _check(encoder, faces)
    held = _drawn_out(faces, settings) if faces.held_out is None else faces.held_out
    _check_enough(faces, held, settings)
    return held


def _combination(
    settings: FitSettings,
    heads: dict[HeadName, CalibratedHead],
    by_head: dict[HeadName, NDArray[np.float64]],
    report: dict[str, Any],
) -> Combination | None:
    """Combine the heads if that is asked for, and add the scores and what is said of them, in place."""
    if settings.combine is None:
        return None
    combined = combine_heads(settings.combine, heads, by_head, settings.false_alarm)
    by_head["combined"] = combined.scores
    report["combined"] = dict(combined.report)
    report["notices"] += report["combined"].pop("notices")
    return combined.combination


def _two_tailed(
    encoder: Detector, faces: FitFaces, held: NDArray[np.bool_], settings: FitSettings
) -> tuple[Detector, FitFaces, FitSettings]:
    """Turn the one number of an encoder into its normal score among the photographs of the fit."""
    tails = fit_tails(_photographs(faces, ~held).embeddings[:, 0])
    ours, theirs = (
        None if part is None else normal_scores(tails, part)
        for part in (faces.copies.photographic, faces.copies.ai_generated)
    )
    generated = None if faces.ai_generated is None else normal_scores(tails, faces.ai_generated)
    faces = replace(
        faces,
        photographic=normal_scores(tails, faces.photographic),
        ai_generated=generated,
        copies=DegradedCopies(ours, theirs),
    )
    if (
        settings.covariance == "auto"
    ):  # of one number, whose distribution is known, there is nothing to choose
        settings = replace(settings, covariance="full", n_components=1)
    return replace(encoder, graph=with_tails(encoder.graph, tails)), faces, settings


def _measured(
    detector: Detector,
    scores: Mapping[HeadName, NDArray[np.float64]],
    faces: FitFaces,
    held: NDArray[np.bool_],
    settings: FitSettings,
) -> Detector:
    """Measure the false alarms among held-out photographs of each source, by a threshold of the others."""
    if faces.sources is None:
        return detector
    sources, rate, by = _held_sources(faces, held), settings.false_alarm, check_unit(settings.by)
    found = [one for head, of in scores.items() for one in rates_by_source(head, of, sources, rate, by)]
    return replace(detector, manifest=msgspec.structs.replace(detector.manifest, measured=tuple(found)))


def _tiles(faces: FitFaces, chosen: NDArray[np.bool_]) -> list[int] | None:
    """Count the tiles of each chosen picture; None for faces."""
    if faces.pictures is None:
        return None
    return tile_counts(faces.pictures[chosen])


def _n(faces: FitFaces, chosen: NDArray[np.bool_]) -> int:
    """Count the chosen photographs, or faces in them."""
    counts = _tiles(faces, chosen)
    return int(chosen.sum()) if counts is None else len(counts)


class _Calibration(NamedTuple):
    """Over what rates hold, and the folders of the photographs held out."""

    by: CalibrationUnit
    collections: Collections | None

    def of(self, scores: NDArray[np.float64], head: CalibratedHead) -> CalibratedHead:
        """Calibrate a head on photographic scores of the photographs held out, ``[n]``."""
        return head if self.collections is None else calibrate_by(self.by, scores, self.collections, head)


def _calibration(faces: FitFaces, held: NDArray[np.bool_], settings: FitSettings) -> _Calibration:
    """Find the folders before anything is fitted: too few of them are an error."""
    by = check_unit(settings.by)
    if by == "file":
        return _Calibration(by, None)
    if faces.sources is None:
        raise DataError(f"--by {by} needs to know where each photograph comes from")
    return _Calibration(by, find_collections(by, _held_sources(faces, held), settings.false_alarm))


def _held_sources(faces: FitFaces, held: NDArray[np.bool_]) -> list[str]:
    """List where the held-out photographs come from, one for each of their scores."""
    assert faces.sources is not None
    counts, of_held = _tiles(faces, held), faces.sources[held]
    if counts is not None:
        of_held = of_held[np.cumsum(counts) - counts]
    found: list[str] = of_held.tolist()
    return found


def _drawn_out(faces: FitFaces, settings: FitSettings) -> NDArray[np.bool_]:
    """Draw the photographs that calibrate, bool ``[n]``, whole groups of them."""
    rng = np.random.default_rng(settings.seed)
    return hold_out(len(faces.photographic), settings.held_out, rng, faces.groups)


def _assembled(
    encoder: Detector,
    heads: dict[HeadName, CalibratedHead],
    combination: Combination | None,
    mixture: Mixture,
    classifier: dict[str, torch.Tensor] | None,
    false_alarm: float,
    about: dict[str, Any],
) -> Detector:
    default: HeadName = "one-class" if classifier is None else "binary"
    manifest = msgspec.structs.replace(
        encoder.manifest,
        heads=heads,
        default_head=default if combination is None else "combined",
        combination=combination,
        default_false_alarm=false_alarm,
        measured=(),
        provenance={**encoder.manifest.provenance, **about},
    )
    detector = Detector(manifest, encoder.vision, mixture, classifier, encoder.graph)
    validate_detector(detector, where="the fitted detector")
    return detector


def _check(encoder: Detector, faces: FitFaces) -> None:
    d, n = encoder.manifest.encoder.embedding_dim, len(faces.photographic)
    for name, part in (("photographic", faces.photographic), ("AI-generated", faces.ai_generated)):
        if part is not None and (part.ndim != 2 or part.shape[1] != d or not np.isfinite(part).all()):
            raise DataError(f"{name} embeddings must be finite [n, {d}], got {list(part.shape)}")
    if faces.groups is not None and faces.groups.shape != (n,):
        raise DataError(f"{n} photographs but groups of shape {list(faces.groups.shape)}")


def _check_enough(faces: FitFaces, held: NDArray[np.bool_], settings: FitSettings) -> None:
    """Check the numbers of faces; degraded copies do not count."""
    n_held_out, n_fit = _n(faces, held), _n(faces, ~held)
    needed = needed_photographs(settings.false_alarm)
    if n_held_out < needed:
        raise DataError(
            f"{n_held_out} photographs are held out; a false-alarm rate of {settings.false_alarm:g} needs at "
            f"least {needed}: give about {round(needed / settings.held_out)} photographs or more"
        )
    if faces.ai_generated is None:
        return
    for name, n in (("photographic", n_fit), ("AI-generated", len(faces.ai_generated))):
        if n < FEWEST:
            raise DataError(f"{n} {name} faces: the binary head needs at least {FEWEST}")


def _one_class_head(fit: MixtureFit, scores: NDArray[np.float64]) -> CalibratedHead:
    covariance, n_components, shrinkage = fit.shape
    settings: dict[str, Any] = {
        "covariance": covariance,
        "n_components": n_components,
        "shrinkage": shrinkage,
    }
    if fit.held_out:
        settings["held_out_log_likelihood"] = fit.held_out[0][1]
    return CalibratedHead(compress_calibration(scores), len(scores), settings, fit.paper_threshold)


def _photographs(faces: FitFaces, kept: NDArray[np.bool_]) -> Grouped:
    """Take the photographs that both heads learn from, with their copies."""
    copies, groups = faces.copies.photographic, faces.groups
    return _with_copies(
        faces.photographic[kept],
        None if copies is None else copies[kept],
        None if groups is None else groups[kept],
    )


def _with_copies(
    embeddings: NDArray[np.float32], copies: NDArray[np.float32] | None, groups: NDArray[Any] | None
) -> Grouped:
    """Join faces ``[n, d]`` and their copies ``[n, c, d]``; a face and its copies are one group."""
    groups = np.arange(len(embeddings)) if groups is None else groups
    if copies is None:
        return Grouped(embeddings, groups)
    flat = copies.reshape(-1, copies.shape[-1])
    return Grouped(
        np.concatenate([embeddings, flat]), np.concatenate([groups, np.repeat(groups, copies.shape[1])])
    )


class _Spaces(NamedTuple):
    """By what the embeddings are standardised for each head, and which binary head there is to be."""

    mixture: Standard
    binary: Standard
    binary_head: str


def _spaces(
    encoder: Detector, photographs: Grouped, generated: Grouped | None, settings: FitSettings
) -> _Spaces:
    """Leave embeddings of an encoder of ours as they are: it was trained to put them on a sphere."""
    foreign = bool(encoder.graph)
    kind = settings.binary_head
    if kind == "auto":
        kind = "logistic" if foreign else "perceptron"
    parts = [part.embeddings for part in (photographs, generated) if part is not None]
    unchanged, standard = Standard.unchanged(parts[0].shape[1]), Standard.of(parts)
    return _Spaces(
        mixture=standard if foreign else unchanged,
        binary=standard if foreign or kind == "logistic" else unchanged,
        binary_head=kind,
    )


def _fit_mixture(
    photographs: Grouped, standard: Standard, n_photographs: int, settings: FitSettings, progress: Progress
) -> MixtureFit:
    return fit_mixture(
        standard.apply(photographs.embeddings),
        covariance_type=settings.covariance,
        n_components=settings.n_components,
        shrinkage=settings.shrinkage,
        groups=photographs.groups,
        n_photographs=n_photographs,
        random_state=settings.seed,
        progress=lambda done, total: progress("mixture", done, total),
    )


def _folded(fit: MixtureFit, standard: Standard) -> MixtureFit:
    """Tell a mixture of standardised embeddings, and its threshold, of embeddings as they are."""
    threshold = fit.paper_threshold - standard.log_volume
    return replace(fit, mixture=standard.folded_mixture(fit.mixture), paper_threshold=threshold)


def _fit_binary(
    photographic: Grouped,
    ai_generated: Grouped,
    spaces: _Spaces,
    mixture: Mixture,
    settings: FitSettings,
    encoder: Detector,
    progress: Progress,
) -> BinaryFit:
    return fit_binary(
        spaces.binary_head,
        photographic,
        ai_generated,
        spaces.binary,
        mixture,
        ClassifierSettings(
            normalise=encoder.manifest.encoder.normalise,
            n_outliers=settings.n_outliers,
            max_epochs=settings.max_epochs,
            random_state=settings.seed,
        ),
        progress=lambda done, total: progress("classifier", done, total),
    )


def _binary_head(scores: NDArray[np.float64], about: dict[str, Any]) -> CalibratedHead:
    return CalibratedHead(compress_calibration(scores), len(scores), about)


def _report(
    mixture: MixtureFit,
    scores: NDArray[np.float64],
    head: CalibratedHead,
    faces: FitFaces,
    settings: FitSettings,
    collections: Collections | None,
) -> dict[str, Any]:
    """Report what was measured, as plain JSON values."""
    n, n_photographs = len(scores), _n(faces, np.ones(len(faces.photographic), np.bool_))
    alarms = int((scores < mixture.paper_threshold).sum())
    return {
        "settings": asdict(settings),
        "n_photographs": n_photographs,
        "n_fit": n_photographs - n,
        "n_held_out": n,
        "n_groups": n_photographs if faces.groups is None else len(np.unique(faces.groups)),
        "n_ai_generated": 0 if faces.ai_generated is None else len(faces.ai_generated),
        "false_alarm": settings.false_alarm,
        **promised(check_unit(settings.by), collections, n, settings.false_alarm),
        "threshold": false_alarm_threshold(head, settings.false_alarm),
        "paper_threshold": mixture.paper_threshold,
        "paper_false_alarm": alarms / n,
        "paper_false_alarm_interval_95": list(clopper_pearson(alarms, n)),
        "tried": [[*shape, value] for shape, value in mixture.held_out[:10]],
        "notices": [*mixture.notices, *left_out_told(collections, settings.false_alarm)],
    }
