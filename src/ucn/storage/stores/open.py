"""From a path or a URI to its store."""

from pathlib import Path

from ucn.errors import UserError
from ucn.storage.stores.base import Store
from ucn.storage.stores.local import LocalStore


def open_store(uri: str | Path) -> Store:
    """The store at a local path, ``file://``, ``s3://``, or another URI that pyarrow knows.

    Raises:
        UserError: a URI that names no folder.
    """
    text = absolute_uri(uri)
    scheme, separator, place = text.partition("://")
    if not separator:
        return LocalStore(text)
    if "@" in place.partition("/")[0] or "?" in place:
        # Shown without what it holds: it may be a secret.
        raise UserError(
            f"{scheme}://...: a URI with credentials or options; write {scheme}://BUCKET/FOLDER "
            "and set the rest in the environment"
        )
    if scheme == "s3":
        from ucn.storage.stores.s3 import S3Store

        return S3Store(text)
    from ucn.storage.stores.arrow import ArrowStore

    return ArrowStore(text)


def absolute_uri(uri: str | Path) -> str:
    """A local path made absolute; a URI as it is."""
    text = str(uri).removeprefix("file://")
    if "://" in text:
        return text.rstrip("/")
    return str(Path(text).expanduser().absolute())
