"""An output in a bucket: an object that appears when it is complete. Until then rows wait in a local file."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from bladescan.base.errors import BladescanError, ImageError, OutputError, UsageError
from bladescan.base.output_files import partial_name
from bladescan.sources.addresses import Address, parse_url
from bladescan.sources.buckets import first_object, open_store
from bladescan.sources.object_store import can_be_named
from bladescan.sources.retries import TransientError, retry


class BucketObject:
    """An output at the URL of an object; its methods are those of `bladescan.base.output_files.Output`.

    The store takes all of it or nothing. What it will not take is kept in a local file.

    Raises:
        UsageError: the URL names no object, or a web server.
        BladescanError: the bucket cannot be reached; now, and not after the scan.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._address = _object_address(url)
        open_store(self._address)
        first_object(self._address)
        try:
            self._file = tempfile.TemporaryFile(prefix="bladescan-")
        except OSError as exc:
            raise OutputError(f"cannot write {url}: no temporary file: {exc.strerror}; set TMPDIR") from exc

    def write(self, data: bytes) -> None:
        """Add bytes to the local file."""
        try:
            self._file.write(data)
        except OSError as exc:
            why = f"{exc.strerror}; set TMPDIR to a folder with room"
            raise OutputError(f"cannot write {self._url}: its temporary file: {why}") from exc

    def commit(self) -> None:
        """Send the object."""
        self._send(self._address.key)

    def keep_partial(self) -> str | None:
        """Send what there is as another object, ``v.partial.csv`` for ``v.csv``."""
        self._send(partial_name(self._address.key))
        return partial_name(self._url)

    def discard(self) -> None:
        """Throw the local file away."""
        with suppress(OSError):
            self._file.close()

    def _send(self, key: str) -> None:
        url = f"{self._address.root}/{key}"
        try:
            self._file.flush()
            path = Path(f"/proc/self/fd/{self._file.fileno()}")
            retry(lambda: open_store(self._address).write(key, path), url)
        except (BladescanError, TransientError, OSError) as exc:
            why = exc.detail if isinstance(exc, ImageError | TransientError) else str(exc)
            kept = self._kept(os.path.splitext(key)[1])
            raise OutputError(f"cannot write {url}: {why}; the verdicts are kept in {kept}") from exc
        self.discard()

    def _kept(self, suffix: str) -> str:
        """Copy what was to be sent into a file with a name."""
        try:
            descriptor, name = tempfile.mkstemp(prefix="bladescan-verdicts-", suffix=suffix)
            with os.fdopen(descriptor, "wb") as file:
                self._file.seek(0)
                shutil.copyfileobj(self._file, file)
        except OSError as exc:
            return f"no file: {exc.strerror}"
        return name


def _object_address(url: str) -> Address:
    address = parse_url(url)
    if address.is_web:
        raise UsageError(f"{url}: a web server cannot be written to; give a file, or s3://, gs:// or az://")
    if address.is_prefix:
        raise UsageError(f"{url}: names a bucket or a prefix; give an object in it, such as verdicts.csv")
    if not can_be_named(address.key):
        raise UsageError(f"{url}: obstore cannot write such a key")
    return address
