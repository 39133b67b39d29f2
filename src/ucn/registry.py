"""Open registries: a class by its short name, or by ``package.module:Class``.

A registry lists the built-in classes by where they are, and imports one when it is asked for. A
class of the user's own package needs no entry: its full name is enough.
"""

import importlib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Generic, TypeVar

from ucn.errors import UserError

T = TypeVar("T")


@dataclass(frozen=True)
class Registry(Generic[T]):
    """Classes of one kind.

    Attributes:
        kind: what the classes are, for messages: ``source``.
        base: every class is a subclass of it.
        builtin: short name -> ``package.module:Class``.
    """

    kind: str
    base: type[T]
    builtin: Mapping[str, str]

    def load(self, name: str) -> type[T]:
        """Import a class.

        Args:
            name: a short name, or ``package.module:Class``. Every node must be able to import it.

        Raises:
            UserError: no such name or module, or the class is not a subclass of the base.
        """
        if name not in self.builtin and ":" not in name:
            close = get_close_matches(name, self.builtin, n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise UserError(
                f"{name}: no such {self.kind}; {hint}there are {', '.join(self.builtin)}, and "
                "package.module:Class of your own"
            )
        module, _, attribute = self.builtin.get(name, name).partition(":")
        if name not in self.builtin:
            _prepare_foreign_import()
        try:
            found = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise UserError(
                f"{name}: {error}; name a {self.kind} as package.module:Class"
            ) from error
        if not (isinstance(found, type) and issubclass(found, self.base)):
            raise UserError(
                f"{name}: not a subclass of {self.base.__module__}.{self.base.__qualname__}"
            )
        return found


def _prepare_foreign_import() -> None:
    # OpenCV aborts at its first PNG where pycolmap was loaded before it.
    importlib.import_module("cv2")
    # A console script does not search the working directory. Ray hands the path to its workers.
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
