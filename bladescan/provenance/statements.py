"""What the IPTC properties of a file state of its origin. The properties are read in `fields`.

References:
    IPTC Photo Metadata Standard 2025.1: Digital Source Type, AI System Used.
"""

from __future__ import annotations

from collections.abc import Iterator

from bladescan.base.provenance_record import Evidence, Says
from bladescan.exif.values import as_text
from bladescan.provenance.fields import Fields
from bladescan.provenance.source_types import SOURCE_TYPES, source_term

_SOURCE_TYPE = ("xmp:DigitalSourceType", "xmp:DigitalSourcefileType")
_AI: tuple[Says, ...] = ("ai-generated", "ai-edited")


def statements_in(fields: Fields) -> Iterator[Evidence]:
    """Yield what IPTC's properties say; ``AI System Used`` alone says that a system made the picture."""
    tool = _tool(fields)
    stated: list[Says] = []
    for field in _SOURCE_TYPE:
        for value in fields.get(field, ()):
            term = source_term(value)
            stated.append(SOURCE_TYPES[term] if term else "other")
            named = tool if stated[-1] in _AI else ""
            yield Evidence("iptc", field, stated[-1], named, term or "unknown source type")
    if "xmp:AISystemUsed" in fields:
        says: Says = next((one for one in _AI if one in stated), "ai-generated")
        yield Evidence("iptc", "xmp:AISystemUsed", says, tool, "an AI system is named")


def remote_manifest(fields: Fields) -> Evidence | None:
    """Find the address of a manifest that is stored elsewhere (``dcterms:provenance``)."""
    for value in fields.get("xmp:provenance", ()):
        if value.lower().startswith(("http://", "https://")):
            detail = f"the manifest is at {as_text(value)}; it is not fetched"
            return Evidence("c2pa", "xmp:provenance", "other", "", detail)
    return None


def _tool(fields: Fields) -> str:
    system = as_text("".join(fields.get("xmp:AISystemUsed", ())[:1]))
    version = as_text("".join(fields.get("xmp:AISystemVersionUsed", ())[:1]))
    return f"{system} {version}".strip() or as_text("".join(fields.get("xmp:CreatorTool", ())[:1]))
