"""Registries: a class or function by its short name, or by ``package.module:Name``.

A registry lists the built-in entries by import path and imports them on demand. Those of a user's
own package need no entry; they are loaded by their full name.
"""

import ast
import importlib
import importlib.util
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Generic, TypeVar, cast

from ucn.errors import UserError, did_you_mean

T = TypeVar("T")


@dataclass(frozen=True)
class Registry(Generic[T]):
    """A registry of classes or functions of one kind; T is the type of an entry.

    Attributes:
        kind: kind of the entries, used in error messages, such as ``source``.
        builtin: short name -> ``package.module:Name``.
        base: ``package.module:Class`` that all classes derive from; None for functions.
    """

    kind: str
    builtin: Mapping[str, str]
    base: str | None = None

    def check(self, name: str) -> str:
        """Returns a name that :meth:`load` accepts, without importing anything.

        Raises:
            UserError: nothing is listed under a short name.
        """
        if name not in self.builtin and not is_own(name):
            hint = did_you_mean(name.lower().replace("_", "-"), self.builtin)
            raise UserError(
                f"{name}: no such {self.kind}; {hint}there are {', '.join(self.builtin)}, and "
                f"package.module:{self._what} of your own"
            )
        return name

    def load(self, name: str) -> T:
        """Imports an entry.

        Args:
            name: short name, or ``package.module:Name``. It must be importable on every node.

        Raises:
            UserError: the name or module does not exist, or the entry is of another kind.
        """
        path = self.builtin.get(self.check(name), name)
        module, _, attribute = path.partition(":")
        entries = import_own(module) if path == name else importlib.import_module(module)
        found = getattr(entries, attribute, None)
        fits = callable(found)
        if self.base is not None:
            place, _, base = self.base.partition(":")
            kind = getattr(importlib.import_module(place), base)
            fits = isinstance(found, type) and issubclass(found, kind)
        if not fits:
            wanted = f"subclass of {self.base}" if self.base else "function"
            raise UserError(
                f"{name}: not a {wanted}; name a {self.kind} as package.module:{self._what}"
            )
        return cast(T, found)

    def summaries(self) -> dict[str, str]:
        """First sentence of the docstring of each built-in entry, without importing the entries."""
        return {name: self._summary(path) for name, path in self.builtin.items()}

    @staticmethod
    def _summary(path: str) -> str:
        module, _, attribute = path.partition(":")
        spec = importlib.util.find_spec(module)
        if spec is None or spec.origin is None:
            return ""
        tree = ast.parse(Path(spec.origin).read_text())
        for node in tree.body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == attribute:
                return " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())
        return ""

    @property
    def _what(self) -> str:
        return "Class" if self.base else "function"


def is_own(name: str) -> bool:
    """Whether a name is ``package.module:Name`` of the user rather than a short name."""
    return ":" in name


def import_own(module: str) -> ModuleType:
    """Imports a module of the user, also from the working directory.

    Raises:
        UserError: it cannot be imported.
    """
    # OpenCV aborts on its first PNG if pycolmap was imported before it.
    importlib.import_module("cv2")
    # Console scripts do not have the working directory on their path. Ray passes sys.path on.
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        return importlib.import_module(module)
    except Exception as error:  # a user's module can raise anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(
            f"{module}: cannot be imported ({reason}); correct it, or put its folder on PYTHONPATH"
        ) from error
