"""The properties of an XMP packet that speak of origin. Only those of the picture itself, by namespace.

A document type, an entity, deep nesting and endless markup are refused. Properties within other properties
(the history, what was pasted in) are of other pictures and do not count.

References:
    ISO 16684-1 (XMP); IPTC Photo Metadata Standard 2025.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn
from xml.parsers import expat

from bladescan.provenance.budget import BrokenMetadata, Budget

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns# "
_NAMESPACES = {
    "http://iptc.org/std/Iptc4xmpExt/2008-02-29/": (
        "DigitalSourceType",
        "DigitalSourcefileType",
        "AISystemUsed",
        "AISystemVersionUsed",
        "AIPromptInformation",
    ),
    "http://ns.adobe.com/photoshop/1.0/": ("Credit",),
    "http://ns.adobe.com/xap/1.0/": ("CreatorTool",),
    "http://purl.org/dc/elements/1.1/": ("description",),
    "http://purl.org/dc/terms/": ("provenance",),
    "http://ns.adobe.com/exif/1.0/": ("UserComment",),
    "http://www.tc260.org.cn/ns/AIGC/1.0/": ("AIGC",),
}
_WANTED = {f"{space} {name}": name for space, names in _NAMESPACES.items() for name in names}
_LISTS = frozenset(_RDF + name for name in ("Alt", "Bag", "Seq"))
_UTF16 = (b"\xff\xfe", b"\xfe\xff", b"<\0", b"\0<")
_ROOTS: tuple[list[str], ...] = ([], ["adobe:ns:meta/ xmpmeta"], ["adobe:ns:meta/ xapmeta"])


def read_xmp(packet: bytes, budget: Budget) -> list[tuple[str, str]]:
    """Read a packet.

    Args:
        packet: XML, perhaps with padding around it.
        budget: of the file.

    Returns:
        Names without their namespace, with their texts.

    Raises:
        BrokenMetadata: it is no XML, or one that is refused.
    """
    reader = _Reader(budget)
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = _refuse
    try:
        parser.Parse(packet if packet[:2] in _UTF16 else packet.rstrip(b"\0"), True)
    except expat.ExpatError as exc:
        raise BrokenMetadata(f"XMP: {expat.errors.messages.get(exc.code, 'no XML')}") from exc
    return reader.found


def _refuse(*_: object) -> NoReturn:
    raise BrokenMetadata("XMP: a document type is refused")


class _Reader:
    """Follows the elements from the root to a property of the picture and into its lists."""

    def __init__(self, budget: Budget) -> None:
        self.found: list[tuple[str, str]] = []
        self._budget = budget
        self._path: list[str] = []
        self._texts: list[str] = []

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        """Enter an element."""
        self._budget.count_block()
        if len(self._path) >= self._budget.limits.max_depth:
            raise BrokenMetadata("XMP: nested too deep")
        self._path.append(name)
        self._texts.clear()
        if self._is_description(self._path):
            for attribute, value in attributes.items():
                self._keep(attribute, value)
        elif _RDF + "resource" in attributes and self._is_description(self._path[:-1]):
            self._keep(name, attributes[_RDF + "resource"])

    def end(self, name: str) -> None:
        """Leave an element; a property has its text within itself or in the items of a list."""
        path, text = self._path, "".join(self._texts)
        if self._is_description(path[:-1]):
            self._keep(name, text)
        elif name == _RDF + "li" and path[-2] in _LISTS and self._is_description(path[:-3]):
            self._keep(path[-3], text)
        self._path.pop()
        self._texts.clear()

    def text(self, data: str) -> None:
        """Collect characters."""
        self._texts.append(data)

    def _keep(self, name: str, value: str) -> None:
        if name in _WANTED and value.strip():
            self.found.append((_WANTED[name], value.strip()))

    @staticmethod
    def _is_description(path: list[str]) -> bool:
        """Whether a path leads to the description of the picture itself."""
        return path[-2:] == [_RDF + "RDF", _RDF + "Description"] and path[:-2] in _ROOTS
