"""One driver at a time in an output folder.

What is written does not depend on it: every file is published atomically, and what two drivers
make of one configuration are the same bytes. A lease saves double work, and keeps two
configurations, or two training runs, from mixing in one folder. It ends with its driver: at once
on a local disk (:mod:`.lease_file`), after its expiry in an object store (:mod:`.lease_object`).
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from ucn.storage.lease_file import hold_file
from ucn.storage.stores.local import LocalStore
from ucn.storage.stores.open import open_store

logger = logging.getLogger(__name__)


class Lease(Protocol):
    """A folder that is held."""

    def check(self) -> None:
        """To be called before what another driver would not expect.

        Raises:
            UserError: the lease is lost; another driver may be at work.
        """
        ...


class _NoLease:
    def check(self) -> None: ...


@contextmanager
def exclusive(folder: str | Path) -> Iterator[Lease]:
    """Hold a folder, local or in an object store, inside the block.

    A store that pyarrow reaches has no conditional PUT there: nothing keeps a second driver out of
    it, which is warned of.

    Raises:
        UserError: another driver holds it (one line that says which, and what to do), or the
            folder cannot be used.
    """
    store = open_store(folder)
    if isinstance(store, LocalStore):
        with hold_file(Path(store.uri)) as lease:
            yield lease
    elif store.uri.startswith("s3://"):
        from ucn.storage.lease_object import hold_object
        from ucn.storage.stores.s3_conditional import lease_object

        with hold_object(lease_object(store.uri)) as held:
            yield held
    else:
        logger.warning(
            "%s: such a store cannot keep a second run out; see to it that none writes here",
            store.uri,
        )
        yield _NoLease()
