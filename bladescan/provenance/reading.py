"""From the bytes of an image file to what it says of itself. It decodes no pixel and never raises for a file.

Fields are found by the structure of the container, so that bytes behind its end, or a file that quotes one,
change nothing. The exception is a C2PA signature, which covers the whole file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence

from bladescan.base.provenance_record import CameraEvidence, Declared, Evidence, Provenance
from bladescan.provenance.blocks import Blocks
from bladescan.provenance.budget import BrokenMetadata, Budget, MetadataLimits
from bladescan.provenance.camera import camera_in
from bladescan.provenance.containers import Container, container_of
from bladescan.provenance.credentials import REMOTE, UNTRUSTED, Credentials, library_version, read_credentials
from bladescan.provenance.fields import Fields, add_fields
from bladescan.provenance.marks import RULES
from bladescan.provenance.matching import marks_in
from bladescan.provenance.source_types import SOURCE_TYPES
from bladescan.provenance.statements import remote_manifest, statements_in

LIMITS = MetadataLimits()
"""The limits that apply unless others are given."""

READING = 1
"""Version of how files are read; a change that may give another answer raises it."""

RULES_DIGEST = hashlib.sha256(json.dumps([READING, RULES, SOURCE_TYPES]).encode()).hexdigest()[:16]
"""Of the rules, the vocabulary and `READING`: answers under another one are stale."""

_STRENGTH: tuple[Declared, ...] = ("ai-generated", "ai-edited", "invalid", "captured")
"""Which evidence decides. A broken signature must not hide a generator's mark."""

_MOST_PROMPT = 16_384


def reader_digest(trust_list: str = "") -> str:
    """Digest all that an answer depends on beside the file: rules, the C2PA library, the trust list."""
    parts = [RULES_DIGEST, library_version(), hashlib.sha256(trust_list.encode()).hexdigest()]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def read_provenance(
    data: bytes,
    *,
    trust_list: str = "",
    prompts: bool = False,
    limits: MetadataLimits = LIMITS,
) -> Provenance:
    """Read what a file says of its origin.

    Args:
        data: the file's bytes.
        trust_list: PEM certificates of the authorities whose C2PA signers are trusted; see
            `credentials.read_trust_list`.
        prompts: whether to keep the texts of the marks, which speak of people.
        limits: what may be spent; the rest is left unread, and said to be.

    Returns:
        What was found. What cannot be read is ``unreadable`` evidence.
    """
    container = container_of(data)
    if container is None:
        return Provenance()
    return _Reading(data, container, Budget(limits)).result(trust_list, prompts)


class _Reading:
    """One file being read, step by step; what goes wrong in a step becomes evidence."""

    def __init__(self, data: bytes, container: Container, budget: Budget) -> None:
        self._data, self._container, self._budget = data, container, budget
        self._blocks, self._fields = Blocks(), Fields()
        self._signed, self._camera = Credentials(), CameraEvidence()
        self._found: list[Evidence] = []
        self._broken: list[Evidence] = []
        self._texts: list[str] = []

    def result(self, trust_list: str, prompts: bool) -> Provenance:
        """Take every step."""
        blocks, budget = self._blocks, self._budget
        self._step("container", lambda: self._container.walk(self._data, blocks, budget))
        self._step("container", lambda: add_fields(blocks, self._fields, self._broken, budget))
        self._step("iptc", self._add_statements)
        self._step("container", self._add_marks)
        self._step("exif", self._describe_camera)
        self._step("c2pa", lambda: self._check(trust_list))
        evidence = (*self._signed.evidence, *self._found, *dict.fromkeys(self._broken))
        return _declared(self._signed, evidence, self._camera, tuple(self._texts) if prompts else ())

    def _step(self, by: str, step: Callable[[], None]) -> None:
        try:
            step()
        except BrokenMetadata as exc:
            self._broken.append(Evidence(by, by, "unreadable", detail=str(exc)))
        except Exception as exc:  # hostile bytes may break anything
            self._broken.append(Evidence(by, by, "unreadable", detail=type(exc).__name__))

    def _check(self, trust_list: str) -> None:
        if self._blocks.has_store:
            self._signed = read_credentials(self._data, self._container.media_type, trust_list)

    def _add_statements(self) -> None:
        if not self._blocks.has_store and (remote := remote_manifest(self._fields)):
            self._signed = Credentials(REMOTE, "", (remote,))
        self._found += statements_in(self._fields)
        self._texts += [_prompt(text) for text in self._fields.get("xmp:AIPromptInformation", ())]

    def _add_marks(self) -> None:
        for mark, text in marks_in(self._fields, self._budget):
            self._found.append(mark)
            self._texts.append(_prompt(text))

    def _describe_camera(self) -> None:
        self._camera = camera_in(self._blocks.exif, self._blocks.size, self._budget)


def _prompt(text: str) -> str:
    """Shorten a prompt; half a surrogate pair, which JSON can escape, is no text that can be written."""
    return text[:_MOST_PROMPT].encode("utf-8", "replace").decode()


def _declared(
    signed: Credentials, evidence: tuple[Evidence, ...], camera: CameraEvidence, prompts: tuple[str, ...]
) -> Provenance:
    """Draw the one conclusion; a capture that the trust list does not know is none."""
    unknown = signed.status == UNTRUSTED
    counted = [one for one in evidence if not (one.says == "captured" and one.by == "c2pa" and unknown)]
    for says in _STRENGTH:
        if deciding := [one for one in counted if one.says == says]:
            by, tool = deciding[0].by, _tool(deciding)
            return Provenance(says, by, tool, signed.signer, signed.status, evidence, camera, prompts)
    return Provenance("none", "", "", signed.signer, signed.status, evidence, camera, prompts)


def _tool(evidence: Sequence[Evidence]) -> str:
    """Name the tool; beside a source type it may be the creator tool's, an editor, so it comes last."""
    stated = [one.tool for one in evidence if one.where.startswith("xmp:DigitalSource")]
    named = [one.tool for one in evidence if not one.where.startswith("xmp:DigitalSource")]
    return next((tool for tool in (*named, *stated) if tool), "")
