"""Pictures signed with C2PA manifests by certificates made on the spot (extra ``provenance``)."""

from __future__ import annotations

import datetime
import functools
import io
from typing import Any, NamedTuple

SOURCE = "http://cv.iptc.org/newscodes/digitalsourcetype/"
USUAL = "Test Authority"
"""Name of the authority whose signer signs."""
MEDIA_TYPES = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "TIFF": "image/tiff",
    "AVIF": "image/avif",
    "GIF": "image/gif",
}


class Authority(NamedTuple):
    """A certificate authority, and one signer of it."""

    certificate: str
    chain: bytes
    key: bytes


def _certificate(name: str, key: Any, issuer: Any, issuer_key: Any, is_authority: bool) -> Any:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    now = datetime.datetime.now(datetime.UTC)
    names = [(NameOID.COMMON_NAME, name), (NameOID.ORGANIZATION_NAME, "Test Generators")]
    subject = x509.Name([x509.NameAttribute(kind, value) for kind, value in names])
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only"),
        False,
    )
    built = (
        x509.CertificateBuilder(issuer or subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
        .add_extension(
            x509.KeyUsage(
                **usage,
                digital_signature=not is_authority,
                key_cert_sign=is_authority,
                crl_sign=is_authority,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
        )
    )
    if not is_authority:
        purposes = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
        built = built.add_extension(purposes, critical=False)
    return built.sign(issuer_key, hashes.SHA256())


@functools.cache
def authority(name: str) -> Authority:
    """Make an authority and a signer, each name once."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root = _certificate(name, root_key, None, root_key, True)
    signer = _certificate("Test Signer", key, root.subject, root_key, False)
    root_pem, signer_pem = (one.public_bytes(serialization.Encoding.PEM) for one in (root, signer))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Authority(root_pem.decode(), signer_pem + root_pem, private)


def action(name: str = "c2pa.created", term: str = "", agent: str = "") -> dict[str, Any]:
    """Make an action with a source type and a software agent."""
    more: dict[str, Any] = {"digitalSourceType": SOURCE + term} if term else {}
    return {"action": name, **more, **({"softwareAgent": {"name": agent}} if agent else {})}


def signed(
    data: bytes,
    *actions: dict[str, Any],
    kind: str = "JPEG",
    ingredients: tuple[tuple[str, bytes], ...] = (),
    remote: str = "",
    edits: bool = False,
) -> bytes:
    """Sign a picture.

    Args:
        data: the file.
        actions: see `action`.
        kind: Pillow's name of its format, a key of `MEDIA_TYPES`.
        ingredients: relationship and JPEG file of each.
        remote: where the manifest is said to be, instead of in the file.
        edits: whether the file itself is what was opened and edited.
    """
    import c2pa

    certified = authority(USUAL)
    manifest = {
        "claim_generator_info": [{"name": "Test Maker", "version": "1.0"}],
        "assertions": [{"label": "c2pa.actions", "data": {"actions": list(actions)}}] if actions else [],
    }
    info = c2pa.C2paSignerInfo(b"es256", certified.chain, certified.key, None)
    out = io.BytesIO()
    settings = {"builder": {"thumbnail": {"enabled": False}}, "verify": {"remote_manifest_fetch": False}}
    with c2pa.Context.from_dict(settings) as context, c2pa.Builder(manifest, context) as builder:
        for relation, file in ingredients:
            builder.add_ingredient(
                {"title": "part", "relationship": relation}, "image/jpeg", io.BytesIO(file)
            )
        if edits:  # the builder then adds the source as parent, and c2pa.opened
            builder.set_intent(c2pa.C2paBuilderIntent.EDIT)
        if remote:
            builder.set_no_embed()
            builder.set_remote_url(remote)
        builder.sign(c2pa.Signer.from_info(info), MEDIA_TYPES[kind], io.BytesIO(data), out)
    return out.getvalue()
