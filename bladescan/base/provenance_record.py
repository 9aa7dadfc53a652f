"""The records of provenance: what a file declares, and the evidence for it. They have no behaviour.

The room `provenance` makes them; they lie here because they are part of every image's record.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Declared = Literal["ai-generated", "ai-edited", "captured", "none", "invalid"]
"""What a file as a whole declares; ``invalid`` is a signature that does not hold, with nothing beside it."""

DECLARED: tuple[Declared, ...] = get_args(Declared)

Says = Literal["ai-generated", "ai-edited", "captured", "other", "invalid", "unreadable"]
"""What one piece of evidence says; ``other`` names an origin that is neither a camera nor a generator."""

CameraWord = Literal["none", "sparse", "rich", "inconsistent"]
"""EXIF of a camera in a word: no tag, some, seven or more with a maker note, or a contradiction."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """One thing that a file says of its origin.

    Attributes:
        by: kind of evidence: ``c2pa``, ``iptc``, ``xmp``, ``png-text``, ``exif``, ``comment``, ``container``.
        where: the field, as ``png-text:parameters``.
        says: what follows from it.
        tool: the generator or editor that it names, ``""`` if none.
        detail: a few words for a person; never a prompt.
    """

    by: str
    where: str
    says: Says
    tool: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class CameraEvidence:
    """What the EXIF has of a camera. Anybody can write it: it proves nothing.

    Attributes:
        n_tags: how many of the nine tags are present and make sense.
        word: see `CameraWord`.
        has_maker_note: whether the maker's own block is there.
        contradictions: what does not fit together, in words.
    """

    n_tags: int = 0
    word: CameraWord = "none"
    has_maker_note: bool = False
    contradictions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Provenance:
    """What a file says of itself.

    Attributes:
        declared: what it declares as a whole.
        declared_by: kind of the evidence that decided, ``""`` if none did.
        declared_tool: the generator or editor that is named, ``""`` if none is.
        declared_signer: who signed a manifest that holds, ``""`` otherwise.
        c2pa_status: ``absent``, ``valid`` (no trust list was given), ``trusted``, ``untrusted``,
            ``invalid:`` and the failed check (``unreadable``
            if nothing can be made of it), ``remote`` (the manifest is elsewhere; it is not fetched), or
            ``unreadable-without-extra``.
        evidence: all that was found, signed first.
        camera: of the EXIF.
        prompts: texts of the marks found, only if asked for.
    """

    declared: Declared = "none"
    declared_by: str = ""
    declared_tool: str = ""
    declared_signer: str = ""
    c2pa_status: str = "absent"
    evidence: tuple[Evidence, ...] = ()
    camera: CameraEvidence = CameraEvidence()
    prompts: tuple[str, ...] = ()
