"""One S3 object that is changed on conditions alone: what a lease is made of."""

from email.utils import parsedate_to_datetime

from botocore.exceptions import ClientError

from ucn.errors import UserError
from ucn.storage.lease_holder import LARGEST_BYTES, LEASE
from ucn.storage.lease_object import Seen
from ucn.storage.stores.s3 import Conflict, S3Store


class S3Object:
    """See :class:`ucn.storage.lease_object.ConditionalObject`.

    Args:
        store: the folder that it stands in.
        name: of the object there.
    """

    def __init__(self, store: S3Store, name: str) -> None:
        self._store, self._name = store, name
        self._place = {"Bucket": store.bucket, "Key": store.key(name)}

    @property
    def folder(self) -> str:
        return self._store.uri

    def read(self) -> Seen | None:
        def get() -> Seen:
            found = self._store.client.get_object(**self._place)
            with found["Body"] as body:
                data = body.read(LARGEST_BYTES)
            date = found["ResponseMetadata"]["HTTPHeaders"].get("date")
            if date is None:
                raise UserError(f"{self.folder}: the server's answers have no date; use another")
            age = parsedate_to_datetime(date) - found["LastModified"]
            return Seen(data, found["ETag"], age.total_seconds())

        try:
            return self._store.retried(self._name, get)
        except FileNotFoundError:
            return None

    def put(self, data: bytes, replaces: str | None) -> str | None:
        condition = {"IfNoneMatch": "*"} if replaces is None else {"IfMatch": replaces}

        def send() -> str:
            found = self._store.client.put_object(**self._place, Body=data, **condition)
            return str(found["ETag"])

        try:
            return self._store.retried(self._name, send)
        except (Conflict, FileNotFoundError):
            return None

    def delete(self, etag: str) -> None:
        def remove() -> None:
            try:
                self._store.client.delete_object(**self._place, IfMatch=etag)
            except ClientError as error:
                # Some servers have the condition for PUT alone; the others ignore it.
                if error.response["Error"]["Code"] != "NotImplemented":
                    raise
                self._store.client.delete_object(**self._place)

        try:
            self._store.retried(self._name, remove)
        except (Conflict, FileNotFoundError):
            # Deleted by the request whose answer was lost, or another's by now.
            return


def lease_object(uri: str) -> S3Object:
    """The object that is the lease of a folder."""
    return S3Object(S3Store(uri), LEASE)
