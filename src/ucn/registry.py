"""Registries: a class by its short name, or by ``package.module:Class``.

A registry lists the built-in classes by import path and imports them on demand. Classes of a
user's own package need no entry; they are loaded by their full name.
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
    """A registry of classes of one kind.

    Attributes:
        kind: kind of the classes, used in error messages, such as ``source``.
        base: base class of all classes.
        builtin: short name -> ``package.module:Class``.
    """

    kind: str
    base: type[T]
    builtin: Mapping[str, str]

    def check(self, name: str) -> str:
        """Returns a name that :meth:`load` accepts, without importing anything.

        Raises:
            UserError: no class is listed under a short name.
        """
        if name not in self.builtin and ":" not in name:
            close = get_close_matches(name, self.builtin, n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise UserError(
                f"{name}: no such {self.kind}; {hint}there are {', '.join(self.builtin)}, and "
                "package.module:Class of your own"
            )
        return name

    def load(self, name: str) -> type[T]:
        """Imports a class.

        Args:
            name: short name, or ``package.module:Class``. It must be importable on every node.

        Raises:
            UserError: the name or module does not exist, or the class is not a subclass of the
                base.
        """
        module, _, attribute = self.builtin.get(self.check(name), name).partition(":")
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
    # OpenCV aborts on its first PNG if pycolmap was imported before it.
    importlib.import_module("cv2")
    # Console scripts do not have the working directory on their path. Ray passes sys.path on.
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
