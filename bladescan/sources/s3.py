"""Buckets that speak S3: listed by botocore, which also finds the credentials, and read by obstore.

Only botocore keeps every key as it is, so it also reads the keys that obstore cannot name.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from bladescan.base.errors import BucketError, ImageError
from bladescan.base.records import Reason
from bladescan.base.text import without_password
from bladescan.sources.object_store import can_be_named, client_options, read_object, write_object
from bladescan.sources.retries import CONNECT_S, LISTING_STALL_S, TransientError, in_thread, retry
from bladescan.sources.stored_objects import (
    StoredObject,
    archived_problem,
    brief,
    check_size,
    check_whole,
    missing_reason,
)

if TYPE_CHECKING:
    from obstore.store import ObjectStore


class S3Bucket:
    """A bucket that speaks S3; credentials and region come from where the AWS command takes them.

    Its methods are those of `bladescan.sources.schemes.Store`.

    Args:
        root: such as ``s3://bucket``.

    Raises:
        BucketError: there are no credentials, or the AWS configuration cannot be used.
    """

    def __init__(self, root: str) -> None:
        self.root, self._bucket = root, urlsplit(root).netloc
        with self._configuration():
            import botocore.session

            self._session = botocore.session.get_session()
            answers = self._session.get_component("response_parser_factory")
            answers.set_parser_defaults(timestamp_parser=_moment)
            self._anonymous = os.environ.get("AWS_SKIP_SIGNATURE", "").lower() in ("1", "true", "yes", "on")
            if not self._anonymous and self._session.get_credentials() is None:
                raise BucketError(
                    f"{root}: no credentials found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
                    "AWS_PROFILE, or AWS_SKIP_SIGNATURE=true for a public bucket"
                )
            # botocore itself does not know AWS_REGION, which the AWS command prefers.
            region = os.environ.get("AWS_REGION") or self._session.get_config_variable("region")
            self._client = self._connect(region or "us-east-1")
        self._store_lock = threading.Lock()
        self._store: ObjectStore | None = None

    def find(self, key: str) -> StoredObject | None:
        """Look for the object with exactly this key."""
        # Listing, not HEAD: an answer to HEAD has no body that could say why not.
        page, _ = self._page({"Prefix": key, "MaxKeys": 1})
        return page[0] if page and page[0].key == key else None

    def pages(self, prefix: str) -> Iterator[list[StoredObject]]:
        """List everything below a prefix, in the order of the keys."""
        last, token = "", None
        while True:
            asked = {"Prefix": prefix} | ({"ContinuationToken": token} if token else {})
            page, token = retry(lambda asked=asked: self._page(asked), self.root)  # type: ignore[misc]
            if page:
                if last and page[0].key <= last:
                    raise TransientError(f"the listing repeats itself at {page[0].key!r}")
                last = page[-1].key
                yield page
            if not token:
                return

    async def read(self, key: str, listed: StoredObject | None, max_bytes: int, stall_s: float) -> bytes:
        """Read a whole object, in one attempt."""
        if not can_be_named(key):
            return await in_thread(lambda: self._read_plainly(key, listed, max_bytes, stall_s))
        store = await in_thread(self._obstore)
        return await read_object(store, key, listed, max_bytes, stall_s)

    def write(self, key: str, path: Path) -> None:
        """Make an object of a file, whole or not at all, in one attempt."""
        write_object(self._obstore(), key, path)

    def close(self) -> None:
        """Close its connections."""
        self._client.close()

    def _page(self, asked: dict[str, Any]) -> tuple[list[StoredObject], str | None]:
        with self._answers():
            answer = self._client.list_objects_v2(Bucket=self._bucket, **asked)
        token = answer.get("NextContinuationToken")
        if answer.get("IsTruncated") and not token:
            raise TransientError("the listing says that there is more, but not how to continue")
        return [_found(item) for item in answer.get("Contents", ())], token if answer["IsTruncated"] else None

    def _read_plainly(self, key: str, listed: StoredObject | None, max_bytes: int, stall_s: float) -> bytes:
        with self._answers(missing=missing_reason(listed)):
            answer = self._client.get_object(Bucket=self._bucket, Key=key)
            size = int(answer["ContentLength"])
            with closing(answer["Body"]) as body:
                check_size(size, max_bytes)
                body.set_socket_timeout(stall_s)
                data = bytes(body.read(max_bytes + 1))
        check_whole(len(data), size, answer.get("ETag"), listed)
        return data

    def _obstore(self) -> ObjectStore:
        from obstore.store import S3Store

        with self._store_lock:
            if self._store is None:
                client = self._connect(self._region())
                options: dict[str, Any] = {
                    "endpoint": client.meta.endpoint_url,
                    "region": client.meta.region_name,
                }
                if self._anonymous:
                    options["skip_signature"] = True
                else:
                    options["credential_provider"] = self._credentials
                self._store = S3Store(
                    self._bucket, client_options=client_options(), retry_config={"max_retries": 0}, **options
                )
            return self._store

    def _credentials(self) -> Any:
        """Give obstore botocore's present credentials, which are renewed ten minutes before they expire."""
        keys = self._session.get_credentials().get_frozen_credentials()
        return {
            "access_key_id": keys.access_key,
            "secret_access_key": keys.secret_key,
            "token": keys.token,
            "expires_at": datetime.now(UTC) + timedelta(minutes=10),
        }

    def _connect(self, region: str) -> Any:
        from botocore import UNSIGNED
        from botocore.config import Config

        config = Config(
            signature_version=UNSIGNED if self._anonymous else None,
            s3={"addressing_style": "path"},
            retries={"total_max_attempts": 1},  # `retries` tries again, so that the user is told
            connect_timeout=CONNECT_S,
            read_timeout=LISTING_STALL_S,
            max_pool_connections=64,
        )
        return self._session.create_client("s3", region_name=region, config=config)

    def _region(self) -> str:
        """Find the region of the bucket, which obstore needs; a server outside AWS accepts any."""
        from botocore.exceptions import ClientError

        host = urlsplit(self._client.meta.endpoint_url).hostname or ""
        if not re.search(r"\.amazonaws\.com(\.cn)?$", host):
            return str(self._client.meta.region_name)
        with self._answers():
            try:
                answer = self._client.head_bucket(Bucket=self._bucket)
            except ClientError as exc:  # a refusal names the region, too
                answer = exc.response
        headers = answer["ResponseMetadata"]["HTTPHeaders"]
        return str(headers.get("x-amz-bucket-region", self._client.meta.region_name))

    @contextmanager
    def _configuration(self) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError

        try:
            yield
        except (BotoCoreError, ValueError) as exc:
            raise BucketError(f"{self.root}: the AWS configuration cannot be used: {brief(exc)}") from exc

    @contextmanager
    def _answers(self, missing: Reason = Reason.NOT_FOUND) -> Iterator[None]:
        """Map what botocore raises."""
        from botocore import exceptions as b

        try:
            yield
        except b.ClientError as exc:
            raise self._refusal(exc, missing) from exc
        except (b.NoCredentialsError, b.PartialCredentialsError, b.CredentialRetrievalError) as exc:
            raise BucketError(f"{self.root}: no usable credentials: {brief(exc)}") from exc
        except (b.ReadTimeoutError, b.ConnectTimeoutError) as exc:
            raise TransientError("the server does not answer in time", Reason.TIMEOUT) from exc
        except b.ParamValidationError as exc:
            raise BucketError(f"{self.root}: not a valid bucket name") from exc
        except (b.BotoCoreError, OSError) as exc:
            # Read errors of urllib3 are OSErrors, or wrapped; all of them may pass.
            raise TransientError(f"the connection to {_endpoint(self._client)} failed") from exc

    def _refusal(self, exc: Any, missing: Reason) -> Exception:
        status = int(exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        code = re.sub(r"\W", "", str(exc.response.get("Error", {}).get("Code", "")))[:64]
        code = "" if code == str(status) else code  # botocore's code for an answer that is not S3's
        if code == "NoSuchBucket":
            return BucketError(f"{self.root}: no such bucket at {_endpoint(self._client)}")
        if status == 404:
            return ImageError(missing, f"the server answers 404 {code}".rstrip())
        if archived := archived_problem(code):
            return archived
        if code == "AccessDenied":
            return ImageError(Reason.PERMISSION_DENIED, "the server answers 403 AccessDenied")
        if status in (401, 403):
            return BucketError(
                f"{self.root}: {_endpoint(self._client)} does not accept the credentials "
                f"({code or status}); check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
            )
        if status >= 500 or status in (408, 429) or code in ("SlowDown", "RequestTimeout"):
            return TransientError(f"the server answers {status} {code}".rstrip())
        return ImageError(Reason.READ_ERROR, f"the server answers {status} {code}".rstrip())


def _found(item: Any) -> StoredObject:
    mark = item.get("ETag") or item["LastModified"].isoformat()
    return StoredObject(item["Key"], int(item["Size"]), mark)


def _moment(text: Any) -> Any:
    """Read a timestamp. botocore's own reader, which takes any form, dominates the time of a long listing."""
    from botocore.utils import parse_timestamp

    try:
        return datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return parse_timestamp(text)


def _endpoint(client: Any) -> str:
    return without_password(str(client.meta.endpoint_url))
