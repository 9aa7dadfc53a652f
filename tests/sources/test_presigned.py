"""Presigned addresses: asked for as signed, expired ones said to be, signatures kept out of logs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bladescan.base.records import Reason
from bladescan.base.text import without_signature
from bladescan.sources.source import Source
from tests.sources.asking import fetch, listed
from tests.sources.s3_server import Quiet, serving

pytest.importorskip("obstore", reason="pip install 'bladescan[buckets]'")

SIGNED = (
    "/bucket/a%20b%2Fc+d.jpg?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIA%2F20260101%2Fus-east-1"
    "%2Fs3%2Faws4_request&X-Amz-Date=20260101T000000Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host"
    "&response-content-disposition=attachment%3B%20filename%3D%22a.jpg%22&X-Amz-Signature=0123abcd"
)
REFUSED = {
    "s3": (403, "AccessDenied", "Request has expired"),
    "google": (400, "ExpiredToken", "The provided token has expired."),
    "azure": (403, "AuthenticationFailed", "Signature not valid in the specified time frame: Start - Expiry"),
}


class Store(Quiet):
    """Answers to the one address that was signed, and refuses others as stores do."""

    def do_GET(self) -> None:
        if self.path == SIGNED:
            return self.answer(200, b"picture")
        status, code, message = REFUSED.get(self.path.strip("/"), (403, "SignatureDoesNotMatch", "no"))
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
        return self.answer(status, body.encode())


def test_a_presigned_address_is_asked_for_as_it_was_signed():
    with serving(Store) as endpoint:
        (source,) = listed("-", stdin=f"{endpoint}{SIGNED}\n".encode())
        assert source.name == endpoint + SIGNED
        assert fetch(source, *listed(endpoint + SIGNED)) == [b"picture", b"picture"]


@pytest.mark.parametrize("store", REFUSED)
def test_an_expired_address_says_that_it_is(store):
    status, code, _ = REFUSED[store]
    with serving(Store) as endpoint:
        (problem,) = fetch(Source(f"{endpoint}/{store}"))
    assert problem.detail == f"the server answers {status} {code}: the address is no longer valid"
    assert problem.reason is (Reason.PERMISSION_DENIED if status == 403 else Reason.READ_ERROR)


def test_a_wrong_signature_is_named():
    with serving(Store) as endpoint:
        (problem,) = fetch(Source(endpoint + SIGNED.replace("0123", "9999")))
    assert (problem.reason, problem.detail) == (
        Reason.PERMISSION_DENIED,
        "the server answers 403 SignatureDoesNotMatch",
    )


SECRETS = [
    "https://b.s3.amazonaws.com/a.jpg?X-Amz-Date=1&X-Amz-Signature=SECRET",
    "https://b.s3.amazonaws.com/a.jpg?X-Amz-Security-Token=SECRET&X-Amz-Date=1",
    "https://storage.googleapis.com/b/a.jpg?X-Goog-Signature=SECRET#x",
    "https://b.s3.amazonaws.com/a.jpg?AWSAccessKeyId=A&Signature=SECRET&Expires=1",
    "https://x.blob.core.windows.net/c/a.jpg?sv=2022&sig=SECRET%3D&se=1",
]


LOGGED = """
import logging, sys
from bladescan.base.logs import LogSettings, install, shown
for settings in (LogSettings(), LogSettings(json=True)):
    install(settings)
    for address in sys.argv[1:]:
        logging.getLogger("bladescan.test").warning("is broken", extra={"event": "retry", "source": address})
        print(shown(address))
"""


def test_signatures_are_kept_out_of_lines_on_standard_error():
    done = subprocess.run(
        [sys.executable, "-c", LOGGED, *SECRETS], capture_output=True, check=True, timeout=60
    )
    said = (done.stdout + done.stderr).decode()
    assert done.stderr.count(b"is broken") == 2 * len(SECRETS)
    assert "SECRET" not in said and said.count("***") == 4 * len(SECRETS)


def test_what_is_no_signature_stays():
    for name in ("a.jpg", "s3://b/design=1&sig.jpg", "https://h/a.jpg?x=1&signal=2"):
        assert without_signature(name) == name
