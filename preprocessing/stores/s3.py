"""A prefix of an S3 bucket as a store, over boto3.

The endpoint, the region and the credentials come from the environment or the profile, as every AWS
client takes them (``AWS_ENDPOINT_URL``, ``AWS_PROFILE``, ...); none is ever written or shown.
"""

import base64
import hashlib
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
)

from preprocessing.errors import UserError

Result = TypeVar("Result")

# What one PUT may hold (S3 user guide).
_LARGEST_OBJECT = 5 * 2**30
_ATTEMPTS = 8
_BLOCK = 8 << 20
_ABSENT = ("404", "NoSuchKey", "NotFound")
_BROKEN = (HTTPClientError, IncompleteReadError, EndpointConnectionError)
_REMEDIES = {
    "AccessDenied": "access denied; check the credentials and the bucket's policy",
    "403": "access denied; check the credentials and the bucket's policy",
    "NoSuchBucket": "no such bucket; make it, or correct the name",
    "InvalidAccessKeyId": "unknown access key; check the credentials",
    "SignatureDoesNotMatch": "wrong secret key; check the credentials",
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
        self._bucket, _, self._prefix = self.uri.removeprefix("s3://").partition("/")
        if not self._bucket or not self._prefix:
            raise UserError(f"{uri}: names no folder in a bucket; write s3://BUCKET/FOLDER")

    def __getstate__(self) -> dict[str, Any]:
        # A client holds sockets and locks: each process makes its own.
        return {name: value for name, value in vars(self).items() if name != "_client"}

    def sizes(self) -> dict[str, int]:
        def list_all() -> dict[str, int]:
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=f"{self._prefix}/", Delimiter="/"
            )
            return {
                entry["Key"][len(self._prefix) + 1 :]: entry["Size"]
                for page in pages
                for entry in page.get("Contents", [])
            }

        return self._retried("", list_all)

    def read(self, name: str, start: int = 0, size: int | None = None) -> bytes:
        if size == 0:
            return b""
        chosen = {"Range": f"bytes={start}-{'' if size is None else start + size - 1}"}

        def get() -> bytes:
            options = chosen if start or size is not None else {}
            found = self._client.get_object(Bucket=self._bucket, Key=self._key(name), **options)
            data: bytes = found["Body"].read()
            return data

        return self._retried(name, get)

    @contextmanager
    def local_copy(self, name: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="ucn-") as folder:
            path = Path(folder) / name

            def download() -> None:
                found = self._client.get_object(Bucket=self._bucket, Key=self._key(name))
                with path.open("wb") as file:
                    for block in found["Body"].iter_chunks(_BLOCK):
                        file.write(block)

            self._retried(name, download)
            yield path

    @contextmanager
    def publishing(self, name: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="ucn-") as folder:
            path = Path(folder) / name
            yield path
            self._publish(name, path)

    def delete(self, name: str) -> None:
        self._retried(
            name, lambda: self._client.delete_object(Bucket=self._bucket, Key=self._key(name))
        )

    def prepare(self) -> None:
        """Nothing to make, and nothing is left by a killed writer: a PUT that is cut leaves none.

        A bucket that cannot be reached is told.
        """
        self.sizes()

    def _publish(self, name: str, path: Path) -> None:
        size = path.stat().st_size
        if size > _LARGEST_OBJECT:
            raise UserError(
                f"{self.uri}/{name}: {size / 2**30:.1f} GiB, more than one PUT may hold (5 GiB); "
                "lower --pairs-per-shard"
            )
        with path.open("rb") as file:
            checksum = base64.b64encode(hashlib.file_digest(file, "sha256").digest()).decode()
        if self._checksum(name) == checksum:
            return
        self.delete(name)

        def put() -> None:
            with path.open("rb") as file:
                self._client.put_object(
                    Bucket=self._bucket,
                    Key=self._key(name),
                    Body=file,
                    ContentLength=size,
                    ChecksumSHA256=checksum,
                    IfNoneMatch="*",
                )

        try:
            self._retried(name, put)
        except _Conflict:
            # A PUT whose answer was lost has succeeded; anything else is another writer.
            if self._checksum(name) != checksum:
                raise UserError(
                    f"{self.uri}/{name}: another run writes here; let one of them finish first"
                ) from None

    def _checksum(self, name: str) -> str | None:
        """SHA-256 of an object, base64; None where there is none."""

        def head() -> str | None:
            found = self._client.head_object(
                Bucket=self._bucket, Key=self._key(name), ChecksumMode="ENABLED"
            )
            checksum: str | None = found.get("ChecksumSHA256")
            return checksum

        try:
            return self._retried(name, head)
        except FileNotFoundError:
            return None

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}"

    @cached_property
    def _client(self) -> Any:
        config = Config(
            retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
            connect_timeout=10,
            read_timeout=60,
        )
        return boto3.session.Session().client("s3", config=config)

    def _retried(self, name: str, request: Callable[[], Result]) -> Result:
        """Make a request; once more, after a while, where the connection broke.

        boto3 repeats what fails before an answer begins, not what breaks off in its midst.

        Raises:
            FileNotFoundError: no such object.
            UserError: what else the user must mend.
        """
        place = f"{self.uri}/{name}".rstrip("/")
        for attempt in range(_ATTEMPTS):
            try:
                return request()
            except ClientError as error:
                code = str(error.response.get("Error", {}).get("Code", "unknown"))
                if code in _ABSENT:
                    raise FileNotFoundError(place) from error
                if code in ("PreconditionFailed", "412", "ConditionalRequestConflict"):
                    raise _Conflict from error
                remedy = _REMEDIES.get(code, f"the server answers {code}; try again later")
                raise UserError(f"{place}: {remedy}") from error
            except NoCredentialsError as error:
                raise UserError(
                    f"{place}: no credentials; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and "
                    "AWS_SECRET_ACCESS_KEY"
                ) from error
            except (
                HTTPClientError,
                IncompleteReadError,
                EndpointConnectionError,
                OSError,
            ) as error:
                # An endpoint that does not answer has been tried often enough.
                last = attempt == _ATTEMPTS - 1 or isinstance(error, EndpointConnectionError)
                if last:
                    raise UserError(
                        f"{place}: cannot be reached ({type(error).__name__}); check the network "
                        "and AWS_ENDPOINT_URL"
                    ) from error
                time.sleep(0.1 * 2**attempt)
            except BotoCoreError as error:
                raise UserError(f"{place}: {error}; check the AWS settings") from error
        raise AssertionError("every attempt returns or raises")


class _Conflict(Exception):
    """The condition of a PUT does not hold."""
