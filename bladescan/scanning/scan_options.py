"""What the user asks of a scan, and how the verdicts are to be decided. Nothing is loaded for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bladescan.base.errors import UsageError
from bladescan.base.exit_codes import ExitRule
from bladescan.detectors.combination import check_rule
from bladescan.runtimes.backend import BackendSettings
from bladescan.scanning.declarations import ProvenanceOptions
from bladescan.scanning.decoder_process import DecoderSettings
from bladescan.scanning.explaining import Explaining
from bladescan.scanning.stability import BAND, Stability
from bladescan.scanning.subjects import Models, choose_models


@dataclass(frozen=True, slots=True)
class Decision:
    """How the user wants to decide.

    Attributes:
        head: ``one-class``, ``binary``, or ``auto`` for the detector's default.
        false_alarm: share of photographs that may be flagged; None leaves it to the detector.
        fdr: flag by Benjamini-Hochberg over all faces of the scan instead, at this false-discovery rate.
        storey: with ``fdr``: estimate the share of photographs, instead of taking every face for one.
        stability: least share of the views of a face that must agree with its verdict, where it is near the
            threshold; else it is ``unsure``. None for no look at views.

    Raises:
        UsageError: choices that exclude each other.
    """

    head: str = "auto"
    false_alarm: float | None = None
    fdr: float | None = None
    storey: bool = False
    stability: float | None = None

    def __post_init__(self) -> None:
        if self.fdr is not None and self.false_alarm is not None:
            raise UsageError("--fdr and --false-alarm exclude each other: give one")
        if self.storey and self.fdr is None:
            raise UsageError("--storey needs --fdr RATE")
        self.stability_rule()

    def stability_rule(self) -> Stability | None:
        """Tell how sure a verdict must be.

        Under a discovery rate the batch decides: all faces are looked at that may be near its threshold. That
        is never above the rate, unless the share of photographs is estimated.
        """
        if self.stability is None:
            return None
        if self.fdr is None:
            return Stability(self.stability)
        return Stability(self.stability, 1.0 if self.storey else min(1.0, BAND * self.fdr))


@dataclass(frozen=True, slots=True)
class ScanOptions:
    """What the user asks of a scan, before anything is loaded.

    Attributes:
        model: the detector: the name of a shipped one or the path of a file; None for the default; several
            to be combined.
        combine: rule by which the p-values of several detectors, or of the heads of one, become one
            (`bladescan.detectors.combination`); None where one score decides.
        backend: name of a plugin, or ``auto``.
        decision: what is flagged.
        runtime: where and how the detector runs.
        decoder: limits of images, the face finder.
        provenance: what to do with what files say of themselves.
        explain: say of each flagged face what its score rests on.
        batch_size: most crops in one model run; None for what suits the device.
        n_workers: processes that scan: 1 is this one, 0 as many as cores.
        subject: ``face``, ``image`` or ``both``; ``auto`` is what the detectors were made for.
        image_model: the detector of whole pictures, beside that of faces or alone.
        cluster: ``dask:ADDRESS`` or ``ray:ADDRESS`` of a cluster that scans instead.
        max_errors: most sources that may be unreadable; None for any number.
        exit_rule: what makes the exit code other than 0.
    """

    model: str | Path | Sequence[str | Path] | None = None
    combine: str | None = None
    backend: str = "auto"
    decision: Decision = Decision()
    runtime: BackendSettings = BackendSettings()
    decoder: DecoderSettings = DecoderSettings()
    provenance: ProvenanceOptions = ProvenanceOptions()
    explain: bool = False
    batch_size: int | None = None
    n_workers: int = 1
    cluster: str | None = None
    max_errors: int | None = None
    exit_rule: ExitRule = ExitRule()
    subject: str = "auto"
    image_model: str | Path | None = None

    def __post_init__(self) -> None:
        if self.cluster is not None and self.n_workers != 1:
            raise UsageError("--cluster and --workers exclude each other: give one")
        if self.combine is not None:
            check_rule(self.combine)
        elif len(self.models) > 1:
            raise UsageError("several detectors need --combine stouffer or --combine min")
        if self.chosen_models().image is not None and self.decision.fdr is not None:
            raise UsageError(
                "--fdr keeps its rate among the rows of one detector, and a picture that has both kinds is "
                "flagged by either: no rate would hold for pictures; scan faces and whole pictures apart"
            )

    @property
    def models(self) -> tuple[str | Path | None, ...]:
        """The detectors one by one; (None,) for the default."""
        if self.model is None or isinstance(self.model, str | Path):
            return (self.model,)
        return tuple(self.model) or (None,)

    def explaining(self) -> Explaining | None:
        """Tell which faces are explained.

        Under a discovery rate the batch decides what is flagged, never above that rate, unless the share of
        photographs is estimated: all that may be flagged are explained.
        """
        if not self.explain:
            return None
        rate = self.decision.fdr
        return Explaining(1.0 if self.decision.storey else rate)

    def chosen_models(self) -> Models:
        """Tell which detectors are needed for what is to be judged."""
        return choose_models(self.subject, self.models, self.image_model)
