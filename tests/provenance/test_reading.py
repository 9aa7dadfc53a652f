"""Reading never raises and is never slow, whatever the bytes are; its digest knows what it depends on."""

from __future__ import annotations

import random
import subprocess
import sys
import time

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.endurance.marked import marked_originals
from benchmarks.endurance.mutations import mutant
from benchmarks.signatures import MEDIA_TYPES
from bladescan.base.provenance_record import Provenance
from bladescan.provenance.reading import RULES_DIGEST, read_provenance, reader_digest
from tests.provenance.files import encoded, packet, png, with_chunks
from tests.provenance.generators import GENERATED, NEAR_MISSES
from tests.provenance.signing import action, authority, signed

STARTS = [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"]
STARTS += [b"RIFF\xff\xff\0\0WEBP", b"\0\0\0\x18ftypavif\0\0\0\0avifmif1"]
FILES = [data for _, data in GENERATED.values()] + list(NEAR_MISSES.values())


@given(st.sampled_from(STARTS), st.binary(max_size=400))
@settings(max_examples=400)
def test_any_bytes_are_read(start, rest):
    assert isinstance(read_provenance(start + rest), Provenance)


@given(st.binary(max_size=2000))
@settings(max_examples=200)
def test_any_packet_is_read(xmp):
    body = b"XML:com.adobe.xmp\0\0\0\0\0" + xmp
    assert read_provenance(with_chunks((b"iTXt", body))).c2pa_status in ("absent", "remote")


@pytest.mark.parametrize("first", range(0, 3000, 500))
def test_damaged_files_are_read_and_soon(first):
    files = FILES + marked_originals()
    for seed in range(first, first + 500):
        data = mutant(seed, files)
        started = time.perf_counter()
        assert isinstance(read_provenance(data), Provenance), seed
        assert time.perf_counter() - started < 2, seed


def test_damaged_signed_files_are_read_and_soon():
    authority()
    files = [signed(encoded(kind), action(term="print"), kind=kind) for kind in MEDIA_TYPES]
    statuses = set()
    for seed in range(600):
        started = time.perf_counter()
        statuses.add(read_provenance(mutant(seed, files)).c2pa_status)
        assert time.perf_counter() - started < 2, seed
    assert {"valid", "absent", "invalid:assertion.dataHash.mismatch"} <= statuses


LONG = 3 << 20
HOSTILE = {
    "steps": "Steps: 1, " * (LONG // 10),
    "steps on lines": "Steps: 1, Sampler: x\n" * (LONG // 21),
    "midjourney": " --v 1 Job ID: " * (LONG // 15),
    "spaces": "x --v 1 Job ID: 5b8ad37b-1f0c-4b0e-9a52-6a1de5b1a0f3" + " " * LONG + "x",
    "mochi": "Seed: 1; Generator: " * (LONG // 20),
    "dream": '"' + " -s 1 -S" * (LONG // 8),
    "signature": "Signature: " + "A" * LONG + "!",
    "nested lists": '{"a":' + "[" * (LONG // 2) + "]" * (LONG // 2) + "}",
    "nested objects": '{"a":' * (LONG // 5),
    "long number": '{"a":' + "9" * LONG + "}",
    "many nodes": "{" + ",".join(f'"{i}":{{"class_type":"x"}}' for i in range(60_000)) + "}",
    "model names": "dalle" * (LONG // 5),
}
KEYWORDS = ("parameters", "prompt", "workflow", "Dream", "Comment", "Description", "Software", "AIGC")


@pytest.mark.parametrize("name", HOSTILE)
def test_texts_made_to_be_slow_are_not(name):
    text = HOSTILE[name]
    for keyword in KEYWORDS:
        data = png({keyword: text, "Software": "NovelAI"})
        started = time.perf_counter()
        found = read_provenance(data)
        assert found.declared == "none"
        assert time.perf_counter() - started < 2, keyword


def test_xml_made_to_be_slow_is_not():
    many = "".join(f"<xmp:CreatorTool>{i}</xmp:CreatorTool>" for i in range(50_000))
    started = time.perf_counter()
    read_provenance(with_chunks((b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet(many))))
    assert time.perf_counter() - started < 2


def test_bytes_that_grow_without_end_are_bounded():
    rng = random.Random(1)
    chunks = [(b"tEXt", b"k\0" + rng.randbytes(1 << 20)) for _ in range(24)]
    found = read_provenance(with_chunks(*chunks))
    assert [one.says for one in found.evidence] == ["unreadable"]


def test_the_digest_is_short_and_knows_the_trust_list():
    assert len(RULES_DIGEST) == len(reader_digest()) == 16
    assert len({RULES_DIGEST, reader_digest(), reader_digest("another list")}) == 3


def test_the_digest_is_the_same_in_every_process():
    code = "from bladescan.provenance.reading import reader_digest; print(reader_digest())"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == reader_digest()


def test_a_record_goes_through_messages_unchanged():
    found = read_provenance(GENERATED["a1111 png"][1], prompts=True)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(found), type=Provenance) == found


def test_reading_a_file_without_a_manifest_loads_no_c2pa():
    code = """
import sys
from bladescan.provenance.reading import read_provenance
from tests.provenance.generators import GENERATED
for _, data in GENERATED.values():
    read_provenance(data)
assert not {"c2pa", "piexif", "torch"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
