"""Pictures with metadata, written chunk by chunk: PNG texts, EXIF, XMP, IPTC."""

from __future__ import annotations

import io
import struct
import zlib

from PIL import Image, PngImagePlugin

EXIF_IFD = 0x8769
TAGS = {
    "ImageDescription": 0x010E,
    "Make": 0x010F,
    "Model": 0x0110,
    "Software": 0x0131,
    "Artist": 0x013B,
    "UserComment": 0x9286,
    "MakerNote": 0x927C,
    "ExposureTime": 0x829A,
    "FNumber": 0x829D,
    "ExposureProgram": 0x8822,
    "ISO": 0x8827,
    "MeteringMode": 0x9207,
    "FocalLength": 0x920A,
    "ExposureMode": 0xA402,
    "WhiteBalance": 0xA403,
}
RDF = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about=""
 xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
 xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"
 xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:dcterms="http://purl.org/dc/terms/"
 xmlns:exif="http://ns.adobe.com/exif/1.0/" xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/"
 xmlns:TC260="http://www.tc260.org.cn/ns/AIGC/1.0/" {attributes}>{elements}</rdf:Description>
</rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>"""
SOURCE = "http://cv.iptc.org/newscodes/digitalsourcetype/"


def picture(width: int = 48, height: int = 32) -> Image.Image:
    grey = Image.effect_mandelbrot((width, height), (-2.0, -1.0, 1.0, 1.0), 40)
    return Image.merge("RGB", [grey, grey.rotate(90), grey.rotate(180)])


def encoded(kind: str, image: Image.Image | None = None, **options: object) -> bytes:
    out = io.BytesIO()
    (image or picture()).save(out, kind, **options)
    return out.getvalue()


def png(texts: dict[str, str], **options: object) -> bytes:
    info = PngImagePlugin.PngInfo()
    for keyword, text in texts.items():
        info.add_text(keyword, text)
    return encoded("PNG", pnginfo=info, **options)


def exif(**values: object) -> Image.Exif:
    block = Image.Exif()
    for name, value in values.items():
        tag = TAGS[name]
        (block.get_ifd(EXIF_IFD) if tag >= 0x8000 else block)[tag] = value
    return block


def unicode_comment(text: str) -> bytes:
    """As piexif's helper writes it, which most generators call."""
    return b"UNICODE\0" + text.encode("utf-16-be")


def jpeg(image: Image.Image | None = None, **values: object) -> bytes:
    return encoded("JPEG", image, exif=exif(**values))


def packet(elements: str = "", attributes: str = "") -> bytes:
    return RDF.format(elements=elements, attributes=attributes).encode()


def with_xmp(elements: str = "", attributes: str = "", kind: str = "JPEG") -> bytes:
    xmp = packet(elements, attributes)
    if kind == "PNG":
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", xmp.decode())
        return encoded("PNG", pnginfo=info)
    if kind == "TIFF":
        return encoded("TIFF", tiffinfo={700: xmp})
    if kind == "GIF":
        trailer = b"\x01" + bytes(range(255, -1, -1)) + b"\0"
        gif = encoded("GIF")
        at = 13 + (3 << ((gif[10] & 7) + 1))
        return gif[:at] + b"\x21\xff\x0bXMP DataXMP" + xmp + trailer + gif[at:]
    return encoded(kind, xmp=xmp)


def source_type(term: str, kind: str = "JPEG") -> bytes:
    return with_xmp(attributes=f'Iptc4xmpExt:DigitalSourceType="{SOURCE}{term}"', kind=kind)


def iim(**values: str) -> bytes:
    """Records of Photoshop's IPTC resource."""
    numbers = {"OriginatingProgram": 65, "Credit": 110, "Caption": 120}
    sets = [
        b"\x1c\x02" + bytes([numbers[name]]) + struct.pack(">H", len(value)) + value.encode()
        for name, value in values.items()
    ]
    record = b"".join(sets)
    return b"8BIM\x04\x04\0\0" + struct.pack(">L", len(record)) + record + bytes(len(record) % 2)


def segment(marker: int, body: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body


def with_segments(*segments: bytes, data: bytes | None = None) -> bytes:
    """A JPEG with more segments behind its start."""
    data = data or encoded("JPEG")
    return data[:2] + b"".join(segments) + data[2:]


def with_iim(**values: str) -> bytes:
    return with_segments(segment(0xED, b"Photoshop 3.0\0" + iim(**values)))


def with_chunks(*chunks: tuple[bytes, bytes], data: bytes | None = None) -> bytes:
    """A PNG with more chunks behind its header."""
    data = data or encoded("PNG")
    more = b"".join(
        struct.pack(">L", len(body)) + kind + body + struct.pack(">L", zlib.crc32(kind + body))
        for kind, body in chunks
    )
    return data[:33] + more + data[33:]
