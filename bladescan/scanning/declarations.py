"""What a scan does with what files say of themselves: the user's choice, and how it decides."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bladescan.base.errors import UnknownNameError, UsageError
from bladescan.provenance.credentials import read_trust_list
from bladescan.provenance.reading import reader_digest
from bladescan.scanning.decoder_process import ProvenanceSettings

CHOICES = ("flag", "report", "ignore")


@dataclass(frozen=True, slots=True)
class ProvenanceOptions:
    """What the user asks about files that say where they come from.

    Attributes:
        declared: ``flag`` images whose file says that they are AI-generated; ``report`` what files say, and
            let the detector decide alone; or ``ignore`` it.
        trust_list: file of PEM certificates of the authorities whose C2PA signers are trusted.
        prompts: keep the prompts that generators leave in their files, which speak of people.
    """

    declared: str = "flag"
    trust_list: Path | None = None
    prompts: bool = False

    def __post_init__(self) -> None:
        if self.declared not in CHOICES:
            raise UnknownNameError("choice of --declared", self.declared, CHOICES)
        if self.declared == "ignore" and (self.trust_list is not None or self.prompts):
            raise UsageError("--declared ignore reads nothing: leave out --trust-list and --prompts")

    def settings(self) -> ProvenanceSettings | None:
        """Tell the decoders what to read; None for nothing.

        Raises:
            UsageError: the trust list cannot be read.
        """
        if self.declared == "ignore":
            return None
        trust_list = "" if self.trust_list is None else read_trust_list(self.trust_list)
        return ProvenanceSettings(trust_list, self.prompts)


def described(declared: str, settings: ProvenanceSettings | None) -> dict[str, Any]:
    """Describe what decides about declarations, by the names of `bladescan.outputs.run.RunInfo`."""
    if settings is None:
        return {"declared": declared, "provenance_reader": None, "trust_list": None}
    digest = hashlib.sha256(settings.trust_list.encode()).hexdigest() if settings.trust_list else None
    reader = reader_digest(settings.trust_list)
    return {"declared": declared, "provenance_reader": reader, "trust_list": digest}
