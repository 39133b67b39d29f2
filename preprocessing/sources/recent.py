"""Values that were used last, up to a bound of memory."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar


class Sized(Protocol):
    """What knows its size."""

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""


_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value", bound=Sized)


class Recent(Generic[_Key, _Value]):
    """Makes values by their keys, and keeps the last ones used.

    Args:
        make: of a value; what it raises is passed on and nothing kept.
        max_bytes: bound of all values together; the last two stay whatever their size, since a
            pair needs two.
    """

    def __init__(self, make: Callable[[_Key], _Value], max_bytes: int) -> None:
        self._make = make
        self._max_bytes = max_bytes
        self._values: OrderedDict[_Key, _Value] = OrderedDict()

    def get(self, key: _Key) -> _Value:
        """The value of a key, made if it is not kept."""
        if key not in self._values:
            self._values[key] = self._make(key)
        self._values.move_to_end(key)
        while len(self._values) > 2 and self._bytes() > self._max_bytes:
            self._values.popitem(last=False)
        return self._values[key]

    def _bytes(self) -> int:
        return sum(value.nbytes for value in self._values.values())
