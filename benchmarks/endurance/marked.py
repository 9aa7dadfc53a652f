"""Small pictures that say where they come from: originals for the damage of `mutations`. None is signed."""

from __future__ import annotations

import io
import json
import struct
import zlib

from PIL import Image, PngImagePlugin

_XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
    b'Iptc4xmpExt:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia">'
    b"<Iptc4xmpExt:AISystemUsed>a system</Iptc4xmpExt:AISystemUsed></rdf:Description></rdf:RDF></x:xmpmeta>"
)
_PARAMETERS = (
    "a face\nNegative prompt: blur\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x512"
)
_GRAPH = json.dumps({"3": {"class_type": "KSampler", "inputs": {"seed": 1}}})
_STORE = b"c2pa\x00\x11\x00\x10\x80\x00\x00\xaa\x00\x38\x9b\x71"


def marked_originals() -> list[bytes]:
    """Make a picture for each container and kind of mark."""
    comment = Image.Exif()
    comment.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + _PARAMETERS.encode("utf-16-be")
    comment[0x010F], comment[0x0131] = "maker", "software"
    resources = _resource(b"\x1c\x02\x6e\x00\x13Made with Google AI")
    return [
        _saved("PNG", pnginfo=_texts(parameters=_PARAMETERS, prompt=_GRAPH, workflow=_GRAPH)),
        _saved("PNG", pnginfo=_texts(compressed=True, Description=_PARAMETERS, prompt=_GRAPH)),
        _with_store_png(_saved("PNG", exif=comment)),
        _saved("JPEG", exif=comment, xmp=_XMP),
        _with_segments(_saved("JPEG"), (0xED, b"Photoshop 3.0\0" + resources), (0xEB, _jumbf_segment())),
        _saved("WEBP", exif=comment, xmp=_XMP),
        _saved("TIFF", tiffinfo={700: _XMP, 0x010F: "maker"}),
        _saved("AVIF", speed=10, exif=comment.tobytes(), xmp=_XMP),
        _saved("GIF", comment=_PARAMETERS.encode()),
    ]


def _saved(kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    Image.effect_mandelbrot((48, 32), (-2.0, -1.0, 1.0, 1.0), 40).convert("RGB").save(out, kind, **options)
    return out.getvalue()


def _texts(compressed: bool = False, **texts: str) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    for keyword, text in texts.items():
        info.add_text(keyword, text, zip=compressed)
    info.add_itxt("XML:com.adobe.xmp", _XMP.decode(), zip=compressed)
    return info


def _resource(record: bytes) -> bytes:
    return b"8BIM\x04\x04\0\0" + struct.pack(">L", len(record)) + record + bytes(len(record) % 2)


def _jumbf() -> bytes:
    """Boxes that begin as a manifest store does; no signature is in them."""
    description = b"jumd" + _STORE + b"\x03c2pa\0"
    inner = struct.pack(">L", 4 + len(description)) + description
    return struct.pack(">L", 8 + len(inner)) + b"jumb" + inner


def _jumbf_segment() -> bytes:
    return b"JP\0\1\0\0\0\1" + _jumbf()


def _with_segments(data: bytes, *segments: tuple[int, bytes]) -> bytes:
    more = [b"\xff" + bytes([mark]) + struct.pack(">H", len(body) + 2) + body for mark, body in segments]
    return data[:2] + b"".join(more) + data[2:]


def _with_store_png(data: bytes) -> bytes:
    body = b"caBX" + _jumbf()
    return (
        data[:33] + struct.pack(">L", len(body) - 4) + body + struct.pack(">L", zlib.crc32(body)) + data[33:]
    )
