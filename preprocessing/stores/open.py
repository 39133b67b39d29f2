"""From a path or a URI to its store."""

from pathlib import Path

from preprocessing.stores.base import Store
from preprocessing.stores.local import LocalStore


def open_store(uri: str | Path) -> Store:
    """The store at a local path, ``file://``, ``s3://``, or another URI that pyarrow knows.

    Raises:
        UserError: a URI that names no folder.
    """
    text = absolute_uri(uri)
    scheme, separator, _ = text.partition("://")
    if not separator:
        return LocalStore(text)
    if scheme == "s3":
        from preprocessing.stores.s3 import S3Store

        return S3Store(text)
    from preprocessing.stores.arrow import ArrowStore

    return ArrowStore(text)


def absolute_uri(uri: str | Path) -> str:
    """A local path made absolute; a URI as it is."""
    text = str(uri).removeprefix("file://")
    return text if "://" in text else str(Path(text).expanduser().absolute())
