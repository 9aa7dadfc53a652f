"""Content Credentials: what holds, what does not, whom to trust, what ingredients make of a picture."""

from __future__ import annotations

import io
import socket

import pytest
from PIL import Image

from bladescan.base.errors import UsageError
from bladescan.provenance import credentials
from bladescan.provenance.credentials import read_credentials, read_trust_list
from bladescan.provenance.reading import read_provenance
from tests.provenance.files import encoded, png
from tests.provenance.generators import A1111
from tests.provenance.signing import action, authority, signed

AI = "trainedAlgorithmicMedia"


@pytest.fixture(scope="module")
def generated():
    authority()
    return signed(encoded("JPEG"), action(term=AI, agent="Painter 3"))


def flipped(data, at):
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def test_a_signed_generated_picture_declares_itself(generated):
    found = read_provenance(generated)
    assert (found.declared, found.declared_by, found.declared_tool) == ("ai-generated", "c2pa", "Painter 3")
    assert (found.c2pa_status, found.declared_signer) == ("valid", "Test Generators (Test Signer)")


@pytest.mark.parametrize(
    "agent", ["GPT-4o", "DALL·E", "Adobe Firefly", "Google Generative AI", "Grok Imagine"]
)
def test_generators_that_sign_are_named_as_they_name_themselves(agent):
    authority()
    found = read_provenance(signed(encoded("PNG"), action(term=AI, agent=agent), kind="PNG"))
    assert (found.declared, found.declared_tool) == ("ai-generated", agent)


def test_a_cut_picture_is_invalid(generated):
    found = read_provenance(generated[:-40])
    assert (found.declared, found.c2pa_status) == ("invalid", "invalid:assertion.dataHash.mismatch")
    assert found.declared_signer == ""


def test_a_picture_saved_again_has_lost_its_manifest(generated):
    saved = encoded("JPEG", Image.open(io.BytesIO(generated)))
    found = read_provenance(saved)
    assert (found.declared, found.c2pa_status, found.evidence) == ("none", "absent", ())


def test_a_picture_with_bytes_behind_its_end_is_invalid(generated):
    found = read_provenance(generated + b"thirteen here")
    assert (found.declared, found.c2pa_status) == ("invalid", "invalid:assertion.dataHash.mismatch")


def test_a_flipped_signature_is_invalid(generated):
    # COSE_Sign1 ends with no payload (f6) and the signature: 64 bytes (58 40).
    at = generated.index(b"\xf6\x58\x40") + 3
    found = read_provenance(flipped(generated, at))
    assert (found.declared, found.c2pa_status) == ("invalid", "invalid:claimSignature.mismatch")


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_a_store_cut_short_is_invalid(kind):
    authority()
    data = signed(encoded(kind), action(term=AI), kind=kind)
    cut = data[: data.index(b"jumb") + 400]
    assert read_provenance(cut).declared == "invalid"


def test_a_broken_signature_hides_no_mark():
    authority()
    data = signed(png({"parameters": A1111}), action(term="digitalCapture"), kind="PNG") + b"x"
    found = read_provenance(data)
    assert found.c2pa_status.startswith("invalid:")
    assert (found.declared, found.declared_by) == ("ai-generated", "png-text")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "GIF"])
def test_a_store_is_found_in_every_container(kind):
    authority()
    data = signed(encoded(kind), action(term=AI), kind=kind)
    found = read_provenance(data)
    assert (found.declared, found.c2pa_status) == ("ai-generated", "valid")
    assert found.declared_tool == "Test Maker 1.0"


def test_the_trust_list_decides_whom_to_trust(generated):
    assert read_provenance(generated, trust_list=authority().certificate).c2pa_status == "trusted"
    other = read_provenance(generated, trust_list=authority("Somebody Else").certificate)
    assert (other.declared, other.c2pa_status) == ("ai-generated", "untrusted")


def test_a_capture_counts_unless_its_signer_is_not_on_the_list():
    authority()
    data = signed(encoded("JPEG"), action(term="digitalCapture"))
    assert read_provenance(data).declared == "captured"
    assert read_provenance(data, trust_list=authority().certificate).declared == "captured"
    unknown = read_provenance(data, trust_list=authority("Somebody Else").certificate)
    assert (unknown.declared, unknown.c2pa_status) == ("none", "untrusted")
    assert [one.says for one in unknown.evidence] == ["captured"]


@pytest.mark.parametrize(("relation", "declared"), [("componentOf", "ai-edited"), ("inputTo", "none")])
def test_an_ai_generated_ingredient(generated, relation, declared):
    data = signed(encoded("JPEG"), action(term="digitalCreation"), ingredients=((relation, generated),))
    found = read_provenance(data)
    assert (found.declared, found.c2pa_status) == (declared, "valid")


def test_a_generated_picture_that_was_edited_is_generated_still(generated):
    found = read_provenance(signed(generated, edits=True))
    assert (found.declared, found.c2pa_status, found.declared_tool) == ("ai-generated", "valid", "Painter 3")
    assert found.evidence[0].where == "ingredient (parentOf)"


def test_a_captured_part_makes_no_capture():
    authority()
    part = signed(encoded("JPEG"), action(term="digitalCapture"))
    data = signed(
        encoded("JPEG"),
        action(term="digitalArt"),
        ingredients=(("componentOf", part),),
    )
    assert read_provenance(data).declared == "none"


def test_a_models_work_on_an_opened_capture_is_an_edit():
    authority()
    photograph = signed(encoded("JPEG"), action(term="digitalCapture"))
    edit = action("c2pa.edited", "compositeWithTrainedAlgorithmicMedia", "Fill")
    data = signed(photograph, edit, edits=True)
    found = read_provenance(data)
    assert (found.declared, found.declared_tool) == ("ai-edited", "Fill")
    assert {one.says for one in found.evidence} == {"ai-edited", "captured"}


def test_a_remote_manifest_is_reported_and_not_fetched(monkeypatch):
    authority()
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("the network was used"))
    data = signed(encoded("JPEG"), action(term=AI), remote="http://127.0.0.1:9/manifest.c2pa")
    found = read_provenance(data)
    assert (found.declared, found.c2pa_status) == ("none", "remote")
    assert "http://127.0.0.1:9/manifest.c2pa" in found.evidence[0].detail


def test_without_the_extra_a_store_is_reported_unchecked(generated, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "c2pa", None)
    found = read_provenance(generated)
    assert (found.declared, found.c2pa_status) == ("none", "unreadable-without-extra")
    assert "bladescan[provenance]" in found.evidence[0].detail


def test_what_the_library_cannot_read_is_invalid():
    authority()
    found = read_credentials(b"\xff\xd8\xff\xd9", "image/jpeg", "")
    assert found.status == "invalid:unreadable" and found.evidence[0].detail


def test_the_settings_forbid_the_network(monkeypatch):
    authority()
    seen = []
    import c2pa

    credentials._context.cache_clear()
    monkeypatch.setattr(c2pa.Context, "from_dict", lambda settings: seen.append(settings))
    credentials._context("")
    credentials._context.cache_clear()
    assert seen[0]["verify"]["remote_manifest_fetch"] is seen[0]["verify"]["ocsp_fetch"] is False
    assert seen[0]["core"]["allowed_network_hosts"] == []


def test_a_trust_list_is_a_file_of_certificates(tmp_path):
    path = tmp_path / "list.pem"
    with pytest.raises(UsageError, match="No such file"):
        read_trust_list(path)
    path.write_text("nothing")
    with pytest.raises(UsageError, match="no PEM certificate"):
        read_trust_list(path)
    path.write_text(authority().certificate)
    assert read_trust_list(path) == authority().certificate
