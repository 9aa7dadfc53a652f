"""What manifest stores say, from the library's JSON."""

from __future__ import annotations

import pytest

from bladescan.provenance.manifests import failed_checks, generator_of, origins_in, signer_of
from tests.provenance.files import SOURCE


def store(**manifests):
    return {"active_manifest": "a", "manifests": manifests}


def manifest(*terms, action="c2pa.created", ingredients=()):
    actions = [{"action": action, "digitalSourceType": SOURCE + term} for term in terms]
    return {
        "claim_generator_info": [{"name": "Maker", "version": "2"}],
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": actions}}],
        "ingredients": [
            {"relationship": relation, "active_manifest": label} for relation, label in ingredients
        ],
    }


def says(**manifests):
    return [one.says for one in origins_in(store(**manifests))]


def test_a_manifest_without_a_source_type_is_signed_and_no_more():
    (one,) = origins_in(store(a=manifest()))
    assert (one.says, one.tool, one.detail) == ("other", "Maker 2", "signed, without a source type")


def test_the_strongest_comes_first():
    assert says(a=manifest("digitalCapture", "trainedAlgorithmicMedia")) == ["ai-generated", "captured"]


def test_an_older_generator_is_a_text():
    assert generator_of({"claim_generator": "Old Tool/1.0"}) == "Old Tool/1.0"


def test_a_source_type_in_metadata_counts():
    metadata = {
        "label": "c2pa.metadata",
        "data": {"Iptc4xmpExt:DigitalSourceType": SOURCE + "compositeSynthetic"},
    }
    assert says(a={"assertions": [metadata]}) == ["ai-edited"]


def test_a_model_at_work_on_an_opened_picture_is_an_edit():
    edit = manifest("trainedAlgorithmicMedia", action="c2pa.edited", ingredients=[("parentOf", "b")])
    assert says(a=edit, b=manifest("digitalCapture")) == ["ai-edited", "captured"]


@pytest.mark.parametrize(
    ("relation", "expected"),
    [("parentOf", "ai-generated"), ("componentOf", "ai-edited"), ("inputTo", "other")],
)
def test_a_chain_of_ingredients_is_followed(relation, expected):
    chain = {
        "a": manifest(ingredients=[("parentOf", "b")]),
        "b": manifest(ingredients=[(relation, "c")]),
        "c": manifest("trainedAlgorithmicMedia"),
    }
    assert says(**chain) == [expected]


def test_an_ingredient_may_state_its_type_itself():
    part = {"relationship": "componentOf", "digitalSourceType": SOURCE + "trainedAlgorithmicMedia"}
    assert says(a={"ingredients": [part]}) == ["ai-edited"]


def test_a_ring_of_ingredients_ends():
    ring = {
        "a": manifest(ingredients=[("parentOf", "b")]),
        "b": manifest("print", ingredients=[("parentOf", "a")]),
    }
    assert says(**ring) == ["captured"]


def test_a_long_chain_ends():
    chain = {f"a{i}" if i else "a": manifest(ingredients=[("parentOf", f"a{i + 1}")]) for i in range(5000)}
    assert says(**chain) == ["other"]


def test_titles_of_ingredients_stay_out():
    part = {"title": "Jane.jpg", "relationship": "componentOf", "digitalSourceType": "print"}
    assert "Jane" not in repr(origins_in(store(a={"ingredients": [part]})))


@pytest.mark.parametrize(
    "broken", [None, [], "x", 7, {"a": None}, {"a": {"ingredients": {}, "assertions": [1]}}]
)
def test_what_is_no_store_says_nothing(broken):
    assert [one.says for one in origins_in({"active_manifest": "a", "manifests": broken})] == ["other"]
    assert signer_of({"active_manifest": "a", "manifests": broken}) == ""


def test_failed_checks_leave_trust_out():
    failure = [{"code": "signingCredential.untrusted"}, {"code": "claimSignature.mismatch"}]
    delta = {"validationDeltas": {"failure": [{"code": "assertion.hashedURI.mismatch"}]}}
    results = {"activeManifest": {"failure": failure}, "ingredientDeltas": [delta]}
    expected = ["claimSignature.mismatch", "assertion.hashedURI.mismatch"]
    assert failed_checks({"validation_results": results}) == expected


@pytest.mark.parametrize(
    ("signature", "expected"),
    [
        ({"issuer": "Org", "common_name": "Unit"}, "Org (Unit)"),
        ({"issuer": "Org", "common_name": "Org"}, "Org"),
        ({"common_name": "Unit"}, "Unit"),
        ({}, ""),
    ],
)
def test_a_signer_is_named_once(signature, expected):
    assert signer_of(store(a={"signature_info": signature})) == expected
