"""The S3 store: objects with a common prefix in a bucket, through boto3.

Endpoint, region and credentials come from the environment or the profile, as for every AWS client
(``AWS_ENDPOINT_URL``, ``AWS_PROFILE``, ...). They are never written or shown.
"""

import base64
import functools
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import boto3
from botocore import exceptions
from botocore.config import Config

from ucn.errors import UserError
from ucn.storage.addresses import redact
from ucn.storage.files import temporary_folder
from ucn.storage.retry import Result, backoff, retry

# Limit of one PUT (S3 user guide).
_LARGEST_OBJECT = 5 * 2**30
# About 20 seconds of waiting. If 30 % of requests fail, one in 10^5 fails ten times in a row.
_ATTEMPTS = 10
_FIRST_WAIT_S = 0.05
_LONGEST_WAIT_S = 10.0
_LONGEST_SILENCE_S = 60.0
_CONNECTIONS = 32
_BLOCK = 8 << 20

_ABSENT = ("404", "NoSuchKey", "NotFound")
_CONFLICT = ("412", "PreconditionFailed")
_PAST_END = ("416", "InvalidRange")
# In addition to the server errors (5xx).
_TRANSIENT = (
    "429",
    "BadDigest",
    "ConditionalRequestConflict",
    "OperationAborted",
    "RequestTimeout",
    "Throttling",
    "TooManyRequests",
)
_NETWORK_ERRORS = (
    exceptions.ConnectionError,
    exceptions.HTTPClientError,
    exceptions.IncompleteReadError,
    exceptions.FlexibleChecksumError,
)
_DENIED = "access denied; check the credentials and the bucket's policy"
_REMEDIES = {
    "AccessDenied": _DENIED,
    "403": _DENIED,
    "NoSuchBucket": "no such bucket; make it, or correct the name",
    "ExpiredToken": "the credentials have expired; renew them",
    "InvalidAccessKeyId": "unknown access key; check the credentials",
    "SignatureDoesNotMatch": "wrong secret key; check the credentials",
    "RequestTimeTooSkewed": "this machine's clock is wrong; set it",
    "NotImplemented": "the server has no conditional PUT (If-None-Match); use one that has",
    "PermanentRedirect": "the bucket is in another region; set AWS_DEFAULT_REGION",
    "AuthorizationHeaderMalformed": "the bucket is in another region; set AWS_DEFAULT_REGION",
}


class ObjectVersion(NamedTuple):
    """An object as it was read.

    Attributes:
        data: its content, or the beginning of it.
        etag: identifies the content.
        age_s: seconds since it was written, by the server's clock.
    """

    data: bytes
    etag: str
    age_s: float


class S3Store:
    """Objects below ``s3://BUCKET/PREFIX``; see :class:`ucn.storage.stores.Store`.

    An object is published by one conditional PUT of a finished file, with its SHA-256.

    Raises:
        UserError: the URI has no bucket or no prefix.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/")
        self._bucket, _, self._prefix = self.uri.removeprefix("s3://").partition("/")
        if not self._bucket or not self._prefix:
            raise UserError(f"{uri}: names no folder in a bucket; write s3://BUCKET/FOLDER")

    def sizes(self) -> dict[str, int]:
        found: dict[str, int] = {}
        more: dict[str, str] = {}
        while True:
            page = self._request("", functools.partial(self._page, more))
            for entry in page.get("Contents", []):
                # pyarrow marks folders by empty objects.
                if name := entry["Key"][len(self._prefix) + 1 :]:
                    found[name] = entry["Size"]
            if not page.get("IsTruncated"):
                return found
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def _page(self, more: dict[str, str]) -> Any:
        return self._client.list_objects_v2(
            Bucket=self._bucket, Prefix=f"{self._prefix}/", Delimiter="/", **more
        )

    def read(self, name: str, start: int = 0, size: int | None = None) -> bytes:
        if size == 0:
            return b""
        chosen = {"Range": f"bytes={start}-{'' if size is None else start + size - 1}"}

        def get() -> bytes:
            options = chosen if start or size is not None else {}
            try:
                found = self._client.get_object(Bucket=self._bucket, Key=self._key(name), **options)
            except exceptions.ClientError as error:
                if _code(error) in _PAST_END:
                    return b""
                raise
            data: bytes = found["Body"].read()
            return data

        return self._request(name, get)

    def download(self, name: str, file: BinaryIO) -> None:
        def get() -> None:
            found = self._client.get_object(Bucket=self._bucket, Key=self._key(name))
            file.seek(0)
            with found["Body"]:
                for block in found["Body"].iter_chunks(_BLOCK):
                    file.write(block)

        self._request(name, get)

    @contextmanager
    def local_copy(self, name: str) -> Iterator[Path]:
        with temporary_folder() as folder:
            path = folder / name
            with path.open("wb") as file:
                self.download(name, file)
            yield path

    @contextmanager
    def publishing(self, name: str) -> Iterator[Path]:
        with temporary_folder() as folder:
            path = folder / name
            yield path
            self._publish(name, path)

    def delete(self, name: str) -> None:
        self._request(
            name, lambda: self._client.delete_object(Bucket=self._bucket, Key=self._key(name))
        )

    def prepare(self) -> None:
        """Check that the bucket can be reached; an interrupted PUT leaves nothing to delete."""
        self.sizes()

    def read_version(self, name: str, size: int) -> ObjectVersion | None:
        """Read up to ``size`` bytes of an object with its ETag and age; None if there is none."""

        def get() -> ObjectVersion:
            found = self._client.get_object(Bucket=self._bucket, Key=self._key(name))
            with found["Body"] as body:
                data = body.read(size)
            date = found["ResponseMetadata"]["HTTPHeaders"].get("date")
            if date is None:
                raise UserError(f"{self.uri}: the server's answers have no date; use another")
            age = parsedate_to_datetime(date) - found["LastModified"]
            return ObjectVersion(data, found["ETag"], age.total_seconds())

        try:
            return self._request(name, get)
        except FileNotFoundError:
            return None

    def put_if(self, name: str, data: bytes, etag: str | None) -> str | None:
        """Write an object if the existing one has this ETag, or, for None, if none exists.

        Returns:
            the new ETag; None if the condition does not hold, which is also the case when an
            earlier attempt succeeded and its answer was lost.
        """
        condition = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag}

        def put() -> str:
            found = self._client.put_object(
                Bucket=self._bucket, Key=self._key(name), Body=data, **condition
            )
            return str(found["ETag"])

        try:
            return self._request(name, put)
        except (Conflict, FileNotFoundError):
            return None

    def delete_if(self, name: str, etag: str) -> None:
        """Delete an object if it has this ETag, as far as the server supports the condition."""

        def delete(**condition: str) -> None:
            self._client.delete_object(Bucket=self._bucket, Key=self._key(name), **condition)

        def delete_conditionally() -> None:
            try:
                delete(IfMatch=etag)
            except exceptions.ClientError as error:
                # Some servers support conditions for PUT alone; others ignore this one.
                if _code(error) != "NotImplemented":
                    raise
                delete()

        # Another owner's, or deleted by an attempt whose answer was lost.
        with suppress(Conflict, FileNotFoundError):
            self._request(name, delete_conditionally)

    def _publish(self, name: str, path: Path) -> None:
        """Upload with one conditional PUT, which replaces an existing object at once."""
        size = path.stat().st_size
        if size > _LARGEST_OBJECT:
            raise UserError(
                f"{self.uri}/{name}: {size / 2**30:.1f} GiB, more than one PUT may hold (5 GiB); "
                "lower --pairs-per-shard"
            )
        with path.open("rb") as file:
            checksum = base64.b64encode(hashlib.file_digest(file, "sha256").digest()).decode()

        condition = {"IfNoneMatch": "*"}

        def put() -> None:
            with path.open("rb") as file:
                self._client.put_object(
                    Bucket=self._bucket,
                    Key=self._key(name),
                    Body=file,
                    ContentLength=size,
                    ChecksumAlgorithm="SHA256",
                    ChecksumSHA256=checksum,
                    **condition,
                )

        for _ in range(2):
            try:
                return self._request(name, put)
            except (Conflict, FileNotFoundError):
                found = self._head(name)
            # An earlier attempt succeeded and its answer was lost, or another task has uploaded the
            # same shard.
            if found.get("ChecksumSHA256") == checksum:
                return None
            condition = {"IfMatch": found["ETag"]} if found else {"IfNoneMatch": "*"}
        raise UserError(f"{self.uri}/{name}: another run writes here; let one of them finish first")

    def _head(self, name: str) -> dict[str, Any]:
        """ETag and checksum, if it has one, of an object; empty if there is no object."""
        place = {"Bucket": self._bucket, "Key": self._key(name), "ChecksumMode": "ENABLED"}
        try:
            return self._request(name, lambda: dict(self._client.head_object(**place)))
        except FileNotFoundError:
            return {}

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}"

    @property
    def _client(self) -> Any:
        """The client of this process, with the present settings in the environment."""
        settings = tuple((name, os.environ[name]) for name in os.environ if name[:4] == "AWS_")
        return _client_of(os.getpid(), settings)

    def _request(self, name: str, request: Callable[[], Result]) -> Result:
        """Make a request, and repeat it after errors that may pass.

        Raises:
            FileNotFoundError: there is no such object.
            Conflict: the condition of the request does not hold.
            UserError: any other error.
        """
        address = f"{self.uri}/{name}".rstrip("/")
        try:
            return retry(request, _is_transient, backoff(_FIRST_WAIT_S, _LONGEST_WAIT_S, _ATTEMPTS))
        except (exceptions.BotoCoreError, exceptions.ClientError, ValueError) as error:
            code = _code(error)
            if code in _ABSENT:
                raise FileNotFoundError(address) from error
            if code in _CONFLICT:
                raise Conflict from error
            raise UserError(f"{address}: {_explain(error)}") from error


class Conflict(Exception):
    """The condition of a request does not hold."""


@functools.lru_cache(maxsize=4)
def _client_of(process: int, settings: tuple[tuple[str, str], ...]) -> Any:
    """Make a client, which is slow, or return the one that this process has for these settings.

    It makes one attempt for each request; :meth:`S3Store._request` repeats them.
    """
    config = Config(
        retries={"mode": "standard", "total_max_attempts": 1},
        connect_timeout=10,
        read_timeout=_LONGEST_SILENCE_S,
        max_pool_connections=_CONNECTIONS,
    )
    return boto3.session.Session().client("s3", config=config)


def _code(error: Exception) -> str:
    if not isinstance(error, exceptions.ClientError):
        return ""
    return str(error.response.get("Error", {}).get("Code", "unknown"))


def _is_transient(error: Exception) -> bool:
    if not isinstance(error, exceptions.ClientError):
        return isinstance(error, _NETWORK_ERRORS)
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    return (status >= 500 and status != 501) or _code(error) in _TRANSIENT


def _explain(error: Exception) -> str:
    """Cause and remedy in one line."""
    if isinstance(error, exceptions.ClientError):
        code = _code(error)
        return _REMEDIES.get(code, f"the server answers {code}; try again later")
    if isinstance(error, _NETWORK_ERRORS):
        kind = type(error).__name__
        return f"cannot be reached ({kind}); check the network and AWS_ENDPOINT_URL"
    if isinstance(error, exceptions.NoCredentialsError):
        return "no credentials; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    # An invalid endpoint may be a URI without its scheme, which `redact` does not recognise.
    text = re.sub(r"\S*@|[?#]\S*", "", redact(" ".join(str(error).split())))
    return f"{text}; check the AWS settings"
