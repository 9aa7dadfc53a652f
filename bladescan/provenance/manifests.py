"""What a C2PA manifest store says of a picture, from the JSON of c2pa-python. It checks nothing.

A picture opened from an AI-generated one (``parentOf``) is AI-generated still; one that holds an
AI-generated part (``componentOf``) is AI-edited. What was only given to a model (``inputTo``) is no part.

References:
    C2PA specification 2.1, sections 18.10 (ingredients) and 18.15 (actions).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bladescan.base.provenance_record import Evidence, Says
from bladescan.exif.values import as_text
from bladescan.provenance.source_types import SOURCE_TYPES, source_term

Manifest = Mapping[str, Any]

_MOST_MANIFESTS = 64
_MOST_ITEMS = 1000
_SOURCE_KEYS = ("digitalSourceType", "Iptc4xmpExt:DigitalSourceType", "digital_source_type")


def active_manifest(store: Manifest) -> Manifest:
    """Look up the manifest that speaks of the file itself; empty if there is none."""
    return _mapping(_mapping(store.get("manifests")).get(as_text(store.get("active_manifest"))))


def signer_of(store: Manifest) -> str:
    """Name who signed the active manifest: organisation, and common name if it differs."""
    signature = _mapping(active_manifest(store).get("signature_info"))
    issuer, name = as_text(signature.get("issuer")), as_text(signature.get("common_name"))
    return f"{issuer} ({name})" if issuer and name and issuer != name else issuer or name


def failed_checks(store: Manifest) -> list[str]:
    """List the codes of the checks that failed, of the active manifest first; trust is no such check."""
    results = _mapping(store.get("validation_results"))
    groups = [_mapping(results.get("activeManifest"))]
    groups += [
        _mapping(_mapping(delta).get("validationDeltas")) for delta in _list(results, "ingredientDeltas")
    ]
    codes = [as_text(_mapping(one).get("code")) for group in groups for one in _list(group, "failure")]
    codes += [as_text(_mapping(one).get("code")) for one in _list(store, "validation_status")]
    return [code for code in dict.fromkeys(codes) if code and code != "signingCredential.untrusted"]


def origins_in(store: Manifest) -> list[Evidence]:
    """List what the active manifest and its ingredients say of the picture's origin, strongest first."""
    manifests = _mapping(store.get("manifests"))
    active = active_manifest(store)
    found = list(_origins(active, manifests, {as_text(store.get("active_manifest"))}))
    order: list[Says] = ["ai-generated", "ai-edited", "captured", "other"]
    found.sort(key=lambda one: order.index(one.says))
    return found or [Evidence("c2pa", "c2pa", "other", generator_of(active), "signed, without a source type")]


def generator_of(manifest: Manifest) -> str:
    """Name the software that made a claim."""
    infos = _list(manifest, "claim_generator_info")
    name = _agent(infos[0]) if infos else ""
    return name or as_text(manifest.get("claim_generator"))


def _origins(manifest: Manifest, manifests: Manifest, seen: set[str]) -> Iterator[Evidence]:
    ingredients = [_mapping(one) for one in _list(manifest, "ingredients")]
    has_parent = any(one.get("relationship") == "parentOf" for one in ingredients)
    for where, value, tool in _source_types(manifest):
        term = source_term(value)
        says: Says = SOURCE_TYPES[term] if term else "other"
        if (
            says == "ai-generated"
            and has_parent
            and where.startswith("action")
            and "c2pa.created" not in where
        ):
            says = "ai-edited"  # a model's work on a picture that was there before
        yield Evidence("c2pa", where, says, tool or generator_of(manifest), term or "unknown source type")
    for ingredient in ingredients:
        yield from _within(ingredient, manifests, seen)


def _within(ingredient: Manifest, manifests: Manifest, seen: set[str]) -> Iterator[Evidence]:
    """Yield what an ingredient makes of the picture that it is in."""
    relation, label = as_text(ingredient.get("relationship")), as_text(ingredient.get("active_manifest"))
    inner: list[Evidence] = []
    for key in _SOURCE_KEYS:
        term = source_term(as_text(ingredient.get(key)))
        inner += [Evidence("c2pa", "ingredient", SOURCE_TYPES[term], "", term)] if term else []
    if label in manifests and label not in seen and len(seen) < _MOST_MANIFESTS:
        seen.add(label)
        inner += _origins(_mapping(manifests[label]), manifests, seen)
    for one in inner:
        where = f"ingredient ({relation or 'unknown'})"
        yield Evidence("c2pa", where, _as_part(one.says, relation), one.tool, one.detail)


def _as_part(says: Says, relation: str) -> Says:
    if relation == "parentOf":
        return says
    is_ai = says in ("ai-generated", "ai-edited")
    return "ai-edited" if relation == "componentOf" and is_ai else "other"


def _source_types(manifest: Manifest) -> Iterator[tuple[str, str, str]]:
    """Yield place, value and tool of every source type that a manifest states of its own picture."""
    for assertion in _list(manifest, "assertions"):
        label = as_text(_mapping(assertion).get("label"))
        data = _mapping(_mapping(assertion).get("data"))
        if label.startswith("c2pa.actions"):
            for action in map(_mapping, _list(data, "actions")):
                for value in (as_text(action.get("digitalSourceType")),):
                    if value:
                        yield (
                            f"action {as_text(action.get('action'))}",
                            value,
                            _agent(action.get("softwareAgent")),
                        )
        elif label.startswith(("stds.iptc", "c2pa.metadata", "cawg.metadata")):
            for key in _SOURCE_KEYS:
                if value := as_text(data.get(key)):
                    yield f"assertion {label}", value, ""


def _agent(value: object) -> str:
    """Name a software agent: a text, or an object with name and version."""
    if not isinstance(value, Mapping):
        return as_text(value)
    return f"{as_text(value.get('name'))} {as_text(value.get('version'))}".strip()


def _mapping(value: object) -> Manifest:
    return value if isinstance(value, Mapping) else {}


def _list(of: Manifest, key: str) -> Sequence[Any]:
    value = of.get(key)
    return value[:_MOST_ITEMS] if isinstance(value, list) else ()
