"""What a URL means: its scheme, its bucket or server, its key. It asks no server."""

from __future__ import annotations

import re
from typing import NamedTuple

from bladescan.base.errors import UnknownNameError, UsageError
from bladescan.base.text import without_password
from bladescan.sources.schemes import SCHEMES

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


class Address(NamedTuple):
    """The parts of a URL, never decoded.

    Attributes:
        scheme: in small letters.
        root: ``s3://bucket``; ``root + "/" + key`` is the URL of a bucket's object again.
        key: below the bucket; of a web address the whole URL.
    """

    scheme: str
    root: str
    key: str

    @property
    def is_prefix(self) -> bool:
        """Whether it means everything below it: a bucket, or a prefix that ends with a slash."""
        return not self.is_web and (not self.key or self.key.endswith("/"))

    @property
    def is_web(self) -> bool:
        """Whether it is one file on a web server."""
        return SCHEMES[self.scheme].is_web


def is_url(name: str) -> bool:
    """Tell whether a name is ``scheme://...`` and not a file's."""
    return _SCHEME.match(name) is not None


def without_url(exc: Exception, url: str) -> str:
    """Return an error's line without the URL that it begins with: a row has it already, a log may hide it."""
    return str(exc).removeprefix(f"{without_password(url)}: ")


def parse_url(url: str) -> Address:
    """Split a URL into its parts.

    Raises:
        UnknownNameError: the scheme is not known.
        UsageError: it is no URL, names no bucket, or contains a password.
    """
    match = _SCHEME.match(url)
    if match is None:
        raise UsageError(f"{url}: expected a URL such as s3://bucket/prefix/")
    scheme = match[1].lower()
    if scheme not in SCHEMES:
        raise UnknownNameError("URL scheme", scheme, SCHEMES)
    if without_password(url) != url:
        raise UsageError(f"{without_password(url)}: leave the password out: it would end up in the output")
    bucket, _, key = url[match.end() :].partition("/")
    if not bucket:
        raise UsageError(
            f"{url}: the name of the {'server' if SCHEMES[scheme].is_web else 'bucket'} is missing"
        )
    return Address(scheme, f"{scheme}://{bucket}", url if SCHEMES[scheme].is_web else key)
