"""Content Credentials, checked by c2pa-python (extra ``provenance``). Nothing is fetched over a network.

Without a trust list a manifest is ``valid`` when its signature and every hash hold, whoever signed; with one
it is ``trusted`` or ``untrusted``.

References:
    C2PA specification 2.1, chapter 15 (validation).
"""

from __future__ import annotations

import functools
import io
import json
from pathlib import Path
from typing import Any, NamedTuple

from bladescan.base.errors import UsageError
from bladescan.base.provenance_record import Evidence
from bladescan.exif.values import as_text
from bladescan.provenance.manifests import active_manifest, failed_checks, generator_of, origins_in, signer_of

ABSENT, VALID, TRUSTED, UNTRUSTED, REMOTE = "absent", "valid", "trusted", "untrusted", "remote"
WITHOUT_EXTRA = "unreadable-without-extra"
_OFFLINE = {"remote_manifest_fetch": False, "ocsp_fetch": False}
_MOST_TRUST_BYTES = 16 << 20


class Credentials(NamedTuple):
    """What a manifest store says, and whether it holds."""

    status: str = ABSENT
    signer: str = ""
    evidence: tuple[Evidence, ...] = ()


def read_trust_list(path: Path) -> str:
    """Read a file of PEM certificates: the authorities whose signers are trusted.

    Raises:
        UsageError: it cannot be read, or holds no certificate.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_TRUST_BYTES).decode("ascii", "replace")
    except OSError as exc:
        raise UsageError(f"trust list {path}: {exc.strerror}") from exc
    if "-----BEGIN CERTIFICATE-----" not in text:
        raise UsageError(f"trust list {path}: no PEM certificate (-----BEGIN CERTIFICATE-----) in it")
    return text


def library_version() -> str:
    """Return the version of c2pa-python, ``""`` if it is not installed."""
    try:
        from importlib.metadata import version

        return version("c2pa-python")
    except ImportError:
        return ""


def read_credentials(data: bytes, media_type: str, trust_list: str) -> Credentials:
    """Check the manifest store that is embedded in a file.

    Args:
        data: the file, which has a store by its structure.
        media_type: of its container.
        trust_list: PEM certificates; ``""`` trusts nobody and distrusts nobody.
    """
    try:
        _library()
    except (ImportError, OSError, RuntimeError):  # not installed, or not for this machine
        detail = "a manifest store is embedded; to check it: pip install 'bladescan[provenance]'"
        return Credentials(WITHOUT_EXTRA, "", (Evidence("c2pa", "c2pa", "unreadable", detail=detail),))
    try:
        store = _read(data, media_type, "")
        trusted = (
            bool(trust_list) and _read(data, media_type, trust_list).get("validation_state") == "Trusted"
        )
    except Exception as exc:  # the library's own kinds, and anything on hostile bytes
        return _invalid("unreadable", "", f"{type(exc).__name__.lstrip('_')}: {as_text(str(exc))}")
    if store.get("validation_state") not in ("Valid", "Trusted"):
        return _invalid((failed_checks(store) or ["unknown"])[0], generator_of(active_manifest(store)))
    status = VALID if not trust_list else TRUSTED if trusted else UNTRUSTED
    return Credentials(status, signer_of(store), tuple(origins_in(store)))


def _library() -> Any:
    """Load c2pa-python when the first manifest store is met."""
    import c2pa

    return c2pa


def _read(data: bytes, media_type: str, trust_list: str) -> dict[str, Any]:
    """Let the library check a file; once without trust, so that no trust list makes a valid file invalid."""
    with _library().Reader(media_type, io.BytesIO(data), context=_context(trust_list)) as reader:
        store: dict[str, Any] = json.loads(reader.json())
    return store


def _invalid(check: str, tool: str, why: str = "") -> Credentials:
    evidence = Evidence("c2pa", "c2pa", "invalid", tool, why or f"failed: {check}")
    return Credentials(f"invalid:{check}", "", (evidence,))


@functools.lru_cache(maxsize=4)
def _context(trust_list: str) -> Any:
    """Build the library's settings once for each trust list."""
    trusts = bool(trust_list)
    return _library().Context.from_dict(
        {
            "verify": {**_OFFLINE, "verify_trust": trusts, "verify_timestamp_trust": trusts},
            "core": {"allowed_network_hosts": []},
            "trust": {"trust_anchors": trust_list} if trusts else {},
        }
    )
