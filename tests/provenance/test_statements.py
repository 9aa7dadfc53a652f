"""IPTC's properties and vocabulary, and what hostile XML is refused."""

from __future__ import annotations

import pytest

from bladescan.provenance.budget import BrokenMetadata, Budget, MetadataLimits
from bladescan.provenance.reading import read_provenance
from bladescan.provenance.source_types import SOURCE_TYPES, source_term
from bladescan.provenance.xmp import read_xmp
from tests.provenance.files import SOURCE, packet, source_type, with_xmp

BUDGET = Budget(MetadataLimits(max_s=3600))


def read(xmp):
    return read_xmp(xmp, BUDGET)


@pytest.mark.parametrize("term", SOURCE_TYPES)
def test_every_term_declares_what_it_says(term):
    said = SOURCE_TYPES[term]
    found = read_provenance(source_type(term))
    assert found.declared == ("none" if said == "other" else said)
    assert [(one.says, one.detail) for one in found.evidence] == [(said, term)]


@pytest.mark.parametrize(
    "value",
    [
        SOURCE + "trainedAlgorithmicMedia",
        "https://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia/",
        "http://cv.iptc.org/newscodes/digitalsourcefiletype/trainedAlgorithmicMedia",
        "http://c2pa.org/digitalsourcetype/trainedAlgorithmicMedia",
        "digsrctype:trainedAlgorithmicMedia",
        " trainedalgorithmicmedia ",
    ],
)
def test_a_term_may_be_spelt_in_several_ways(value):
    assert source_term(value) == "trainedAlgorithmicMedia"


@pytest.mark.parametrize(
    "value",
    ["", "http://evil.example/trainedAlgorithmicMedia", "not trainedAlgorithmicMedia", "photo", "x" * 999],
)
def test_what_is_no_term_is_none(value):
    assert source_term(value) is None


@pytest.mark.parametrize(
    "xmp",
    [
        packet(attributes='Iptc4xmpExt:DigitalSourceType="print"'),
        packet("<Iptc4xmpExt:DigitalSourceType>print</Iptc4xmpExt:DigitalSourceType>"),
        packet('<Iptc4xmpExt:DigitalSourceType rdf:resource="print"/>'),
        packet(
            "<Iptc4xmpExt:DigitalSourceType><rdf:Bag><rdf:li>print</rdf:li></rdf:Bag></Iptc4xmpExt:DigitalSourceType>"
        ),
        packet(attributes='Iptc4xmpExt:DigitalSourceType="print"') + bytes(50),
        packet(attributes='Iptc4xmpExt:DigitalSourceType="print"').decode().encode("utf-16"),
    ],
)
def test_a_property_may_be_written_in_several_ways(xmp):
    assert read(xmp) == [("DigitalSourceType", "print")]


def test_another_namespace_or_place_is_another_property():
    assert read(packet(attributes='xmp:DigitalSourceType="print"')) == []
    inner = "<Iptc4xmpExt:DigitalSourceType>print</Iptc4xmpExt:DigitalSourceType>"
    assert read(packet(f"<xmpMM:History><rdf:Description>{inner}</rdf:Description></xmpMM:History>")) == []
    assert (
        read(f'<a xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">{inner}</a>'.encode()) == []
    )


BOMB = b'<!DOCTYPE a [<!ENTITY b "cccccccccc"><!ENTITY d "&b;&b;&b;&b;&b;&b;">]><a>&d;&d;</a>'


@pytest.mark.parametrize(
    ("xmp", "why"),
    [
        (BOMB, "document type"),
        (b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', "document type"),
        (b"<a>" * 1000, "nested too deep"),
        (b"<a></b>", "mismatched tag"),
        (b"", "no element found"),
        (b"\xff\xfe\x00", "XMP: "),
    ],
)
def test_hostile_xml_is_refused(xmp, why):
    with pytest.raises(BrokenMetadata, match=why):
        read(xmp)


def test_endless_markup_is_refused():
    with pytest.raises(BrokenMetadata, match="blocks"):
        read_xmp(b"<a>" + b"<b/>" * 2000 + b"</a>", Budget(MetadataLimits(max_blocks=1000)))


def test_an_ai_system_is_named():
    found = read_provenance(
        with_xmp(attributes='Iptc4xmpExt:AISystemUsed="Imagen" Iptc4xmpExt:AISystemVersionUsed="4"')
    )
    assert (found.declared, found.declared_by, found.declared_tool) == ("ai-generated", "iptc", "Imagen 4")


def test_an_ai_system_of_an_edit_made_an_edit():
    xmp = f'Iptc4xmpExt:AISystemUsed="Eraser" Iptc4xmpExt:DigitalSourceType="{SOURCE}compositeSynthetic"'
    assert read_provenance(with_xmp(attributes=xmp)).declared == "ai-edited"


def test_the_prompt_of_iptc_stays_out_unless_asked_for():
    data = with_xmp(attributes='Iptc4xmpExt:AIPromptInformation="Jane Q" Iptc4xmpExt:AISystemUsed="X"')
    assert "Jane" not in repr(read_provenance(data))
    assert read_provenance(data, prompts=True).prompts == ("Jane Q",)


def test_an_embedded_manifest_is_no_remote_one():
    found = read_provenance(with_xmp(attributes='dcterms:provenance="self#jumbf=c2pa/x"'))
    assert found.c2pa_status == "absent"


def test_a_remote_manifest_needs_no_library():
    found = read_provenance(with_xmp(attributes='dcterms:provenance="https://example.com/a.c2pa"'))
    assert (found.c2pa_status, found.declared) == ("remote", "none")


def test_a_mark_names_the_tool_better_than_the_creator_tool_does():
    xmp = f'Iptc4xmpExt:DigitalSourceType="{SOURCE}compositeSynthetic" xmp:CreatorTool="18.3.1"'
    found = read_provenance(with_xmp(attributes=xmp + ' photoshop:Credit="Apple Photos Clean Up"'))
    assert (found.declared, found.declared_by, found.declared_tool) == ("ai-edited", "iptc", "Apple Photos")


def test_a_generator_is_stronger_than_a_capture():
    xmp = f'Iptc4xmpExt:DigitalSourceType="{SOURCE}digitalCapture" xmp:CreatorTool="Draw Things"'
    found = read_provenance(with_xmp(attributes=xmp))
    assert (found.declared, found.declared_by) == ("ai-generated", "xmp")
    assert [one.says for one in found.evidence] == ["captured", "ai-generated"]
