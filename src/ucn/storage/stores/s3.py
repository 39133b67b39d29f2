"""A prefix of an S3 bucket as a store, over boto3.

The endpoint, the region and the credentials come from the environment or the profile, as every AWS
client takes them (``AWS_ENDPOINT_URL``, ``AWS_PROFILE``, ...); none is ever written or shown.
"""

import base64
import functools
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import boto3
import numpy as np
from botocore import exceptions
from botocore.config import Config

from ucn.errors import UserError
from ucn.storage.addresses import redact
from ucn.storage.files import temporary_folder

Result = TypeVar("Result")

# What one PUT may hold (S3 user guide).
_LARGEST_OBJECT = 5 * 2**30
# Up to some 20 seconds of waiting: 30 % of failures are outlived all but once in 10^5 requests.
_ATTEMPTS = 10
_FIRST_WAIT_S = 0.05
_LONGEST_WAIT_S = 10.0
_LONGEST_SILENCE_S = 60.0
_CONNECTIONS = 32
_BLOCK = 8 << 20

_ABSENT = ("404", "NoSuchKey", "NotFound")
_CONFLICT = ("412", "PreconditionFailed")
_BEYOND_THE_END = ("416", "InvalidRange")
# Beside what the server calls its own fault (5xx).
_PASSING = (
    "429",
    "BadDigest",
    "ConditionalRequestConflict",
    "OperationAborted",
    "RequestTimeout",
    "Throttling",
    "TooManyRequests",
)
_BROKEN = (
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
    "PermanentRedirect": "the bucket lies in another region; set AWS_DEFAULT_REGION",
    "AuthorizationHeaderMalformed": "the bucket lies in another region; set AWS_DEFAULT_REGION",
}


class S3Store:
    """Objects below ``s3://BUCKET/PREFIX``; see :class:`.base.Store`.

    An object is published by one conditional PUT of a finished file, with its SHA-256.

    Args:
        uri: ``s3://BUCKET/PREFIX``.

    Raises:
        UserError: no bucket or no prefix in the URI.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/")
        self.bucket, _, self._prefix = self.uri.removeprefix("s3://").partition("/")
        if not self.bucket or not self._prefix:
            raise UserError(f"{uri}: names no folder in a bucket; write s3://BUCKET/FOLDER")

    def sizes(self) -> dict[str, int]:
        found: dict[str, int] = {}
        more: dict[str, str] = {}
        while True:
            page = self.retried("", functools.partial(self._page, more))
            for entry in page.get("Contents", []):
                found[entry["Key"][len(self._prefix) + 1 :]] = entry["Size"]
            if not page.get("IsTruncated"):
                return found
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def _page(self, more: dict[str, str]) -> Any:
        return self.client.list_objects_v2(
            Bucket=self.bucket, Prefix=f"{self._prefix}/", Delimiter="/", **more
        )

    def read(self, name: str, start: int = 0, size: int | None = None) -> bytes:
        if size == 0:
            return b""
        chosen = {"Range": f"bytes={start}-{'' if size is None else start + size - 1}"}

        def get() -> bytes:
            options = chosen if start or size is not None else {}
            try:
                found = self.client.get_object(Bucket=self.bucket, Key=self.key(name), **options)
            except exceptions.ClientError as error:
                if _code(error) in _BEYOND_THE_END:
                    return b""
                raise
            data: bytes = found["Body"].read()
            return data

        return self.retried(name, get)

    @contextmanager
    def local_copy(self, name: str) -> Iterator[Path]:
        with temporary_folder() as folder:
            path = folder / name

            def download() -> None:
                found = self.client.get_object(Bucket=self.bucket, Key=self.key(name))
                with path.open("wb") as file:
                    for block in found["Body"].iter_chunks(_BLOCK):
                        file.write(block)

            self.retried(name, download)
            yield path

    @contextmanager
    def publishing(self, name: str) -> Iterator[Path]:
        with temporary_folder() as folder:
            path = folder / name
            yield path
            self._publish(name, path)

    def delete(self, name: str) -> None:
        self.retried(
            name, lambda: self.client.delete_object(Bucket=self.bucket, Key=self.key(name))
        )

    def prepare(self) -> None:
        """Nothing to make, and nothing is left by a killed writer: a PUT that is cut leaves none.

        A bucket that cannot be reached is told.
        """
        self.sizes()

    def _publish(self, name: str, path: Path) -> None:
        """One conditional PUT; where another object stands, it is deleted first."""
        size = path.stat().st_size
        if size > _LARGEST_OBJECT:
            raise UserError(
                f"{self.uri}/{name}: {size / 2**30:.1f} GiB, more than one PUT may hold (5 GiB); "
                "lower --pairs-per-shard"
            )
        with path.open("rb") as file:
            checksum = base64.b64encode(hashlib.file_digest(file, "sha256").digest()).decode()

        def put() -> None:
            with path.open("rb") as file:
                self.client.put_object(
                    Bucket=self.bucket,
                    Key=self.key(name),
                    Body=file,
                    ContentLength=size,
                    ChecksumAlgorithm="SHA256",
                    ChecksumSHA256=checksum,
                    IfNoneMatch="*",
                )

        for _ in range(2):
            try:
                return self.retried(name, put)
            except Conflict:
                # A PUT whose answer was lost, or another task with the same shard, has succeeded.
                if self._checksum(name) == checksum:
                    return None
            self.delete(name)
        raise UserError(f"{self.uri}/{name}: another run writes here; let one of them finish first")

    def _checksum(self, name: str) -> str | None:
        """SHA-256 of an object, base64; None where there is none, or the server keeps none."""

        def head() -> str | None:
            found = self.client.head_object(
                Bucket=self.bucket, Key=self.key(name), ChecksumMode="ENABLED"
            )
            checksum: str | None = found.get("ChecksumSHA256")
            return checksum

        try:
            return self.retried(name, head)
        except FileNotFoundError:
            return None

    def key(self, name: str) -> str:
        """Of the object with this name."""
        return f"{self._prefix}/{name}"

    @property
    def client(self) -> Any:
        """Of this process, with the settings that the environment has now."""
        settings = tuple((name, os.environ[name]) for name in os.environ if name[:4] == "AWS_")
        return _client_of(os.getpid(), settings)

    def retried(self, name: str, request: Callable[[], Result]) -> Result:
        """Make a request, again after growing waits where the fault may pass.

        Raises:
            FileNotFoundError: no such object.
            UserError: what else the user must mend.
        """
        place = f"{self.uri}/{name}".rstrip("/")
        for attempt in range(_ATTEMPTS):
            try:
                return request()
            except (exceptions.BotoCoreError, exceptions.ClientError, ValueError) as error:
                code = _code(error)
                if code in _ABSENT:
                    raise FileNotFoundError(place) from error
                if code in _CONFLICT:
                    raise Conflict from error
                if attempt == _ATTEMPTS - 1 or not _may_pass(error):
                    raise UserError(f"{place}: {_explain(error)}") from error
            # Workers that failed together do not come back together.
            wait = min(_FIRST_WAIT_S * 2**attempt, _LONGEST_WAIT_S)
            time.sleep(wait * np.random.default_rng().uniform(0.5, 1))
        raise AssertionError("every attempt returns or raises")


class Conflict(Exception):
    """The condition of a PUT does not hold."""


@functools.lru_cache(maxsize=4)
def _client_of(process: int, settings: tuple[tuple[str, str], ...]) -> Any:
    """The client of a process and its settings: it holds sockets, and is slow to make.

    It tries once; :meth:`S3Store.retried` counts the attempts.
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


def _may_pass(error: Exception) -> bool:
    if not isinstance(error, exceptions.ClientError):
        return isinstance(error, _BROKEN)
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    return (status >= 500 and status != 501) or _code(error) in _PASSING


def _explain(error: Exception) -> str:
    """Cause and remedy, in one line."""
    if isinstance(error, exceptions.ClientError):
        code = _code(error)
        return _REMEDIES.get(code, f"the server answers {code}; try again later")
    if isinstance(error, _BROKEN):
        kind = type(error).__name__
        return f"cannot be reached ({kind}); check the network and AWS_ENDPOINT_URL"
    if isinstance(error, exceptions.NoCredentialsError):
        return "no credentials; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    # An endpoint that cannot be may be an address without its scheme.
    text = re.sub(r"\S*@|[?#]\S*", "", redact(" ".join(str(error).split())))
    return f"{text}; check the AWS settings"
