"""Base class of all configurations. Fast to import, since the command line's help needs it."""

import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, ClassVar, Self, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from ucn.errors import UserError, did_you_mean
from ucn.storage.addresses import redact

# s3://BUCKET/FOLDER; a Path turns the double slash into a single one.
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/")


class FrozenConfig(BaseModel):
    """A frozen configuration that rejects unknown options.

    Raises:
        UserError: a value is invalid. The message is one line that names the option.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    renamed: ClassVar[Mapping[str, str | tuple[str, Callable[[Any], Any]]]] = {}
    """New names of renamed options by old name. Old names are still accepted. A new name can be
    paired with a function that converts the old value."""

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise UserError(explain(error, type(self))) from None

    @classmethod
    def with_new_names(cls, values: Mapping[str, Any], place: str = "") -> dict[str, Any]:
        """Replaces the old names of renamed options, also in nested configurations.

        Args:
            values: option values by name, not validated.
            place: dotted name of this configuration, for error messages.

        Raises:
            UserError: an option is given by both its old and its new name.
        """
        current: dict[str, Any] = {}
        for name, value in values.items():
            new = cls.renamed.get(name, name)
            new, convert = (new, None) if isinstance(new, str) else new
            if new in current or (new != name and new in values):
                raise UserError(
                    f"{place}{name}: this option is now called {place}{new}, and both are given; "
                    "remove one"
                )
            current[new] = convert(value) if convert else value
        for name, field in cls.model_fields.items():
            kind, value = field.annotation, current.get(name)
            if (
                isinstance(kind, type)
                and issubclass(kind, FrozenConfig)
                and isinstance(value, dict)
            ):
                current[name] = kind.with_new_names(value, f"{place}{name}.")
        return current

    def identity(self, exclude: Collection[str] = ()) -> dict[str, Any]:
        """Required options, and options that differ from their defaults, JSON-serialisable.

        Nested configurations are reduced in the same way. Options are listed under their original
        names. So the result stays the same when an option with a default is added, or when an
        option is renamed without a conversion. A changed default is not detected.

        Args:
            exclude: dotted names of options to leave out, such as ``mining.memory_mib``.
        """
        return _changed_options(self, None, exclude, "")

    @model_validator(mode="before")
    @classmethod
    def _read_names_and_lists(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        named = cls.with_new_names(values)
        for name, field in cls.model_fields.items():
            if name in named and is_list(field.annotation):
                named[name] = split_list(named[name])
        return named

    @model_validator(mode="after")
    def _paths_are_local(self) -> Self:
        """Rejects URIs: as a path, ``s3://...`` would be a local folder named ``s3:``."""
        for name, value in self:
            if isinstance(value, Path) and _ADDRESS.match(str(value)):
                raise ValueError(
                    f"{name}: {redact(str(value).replace(':/', '://', 1))} is an address; give a "
                    "folder that this machine, or every node of the cluster, sees"
                )
        return self


def explain(error: ValidationError, model: type[FrozenConfig] | None = None) -> str:
    """Formats the first validation error of pydantic as one line.

    Args:
        error: the error.
        model: the configuration, whose options are suggested for a misspelt one.
    """
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        hint = did_you_mean(place, option_names(model)) if model else ""
        message = f"no such option; {hint}see --help for the names"
    return f"{place}: {message}" if place else message


def option_names(model: type[FrozenConfig]) -> list[str]:
    """Dotted names of all options, such as ``mining.radius``."""
    names: list[str] = []
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, FrozenConfig):
            names += [f"{name}.{below}" for below in option_names(kind)]
        else:
            names.append(name)
    return names


def is_list(kind: Any) -> bool:
    """Whether an option of this type takes any number of values."""
    if get_origin(kind) in (Union, UnionType):
        return all(one is NoneType or is_list(one) for one in get_args(kind))
    return get_origin(kind) is tuple and get_args(kind)[-1:] == (...,)


def split_list(value: Any) -> Any:
    """Makes a list of the value of a list option: of a text with commas, or of a single value.

    The name of an existing file or folder is not split.
    """
    if isinstance(value, str):
        return [value] if os.path.exists(value) else [one for one in value.split(",") if one]
    return value if isinstance(value, Sequence) or value is None else [value]


def _changed_options(
    config: FrozenConfig, default: FrozenConfig | None, exclude: Collection[str], place: str
) -> dict[str, Any]:
    """Options that differ from those of ``default``; None for the class's own defaults."""
    first_names: dict[str, str] = {}
    for old, new in config.renamed.items():
        if isinstance(new, str):
            first_names.setdefault(new, old)
    dumped = config.model_dump(mode="json")
    changed: dict[str, Any] = {}
    for name, field in type(config).model_fields.items():
        if f"{place}{name}" in exclude:
            continue
        value = getattr(config, name)
        if default is None:
            usual = field.get_default(call_default_factory=True)
        else:
            usual = getattr(default, name)
        key = first_names.get(name, name)
        if isinstance(value, FrozenConfig):
            base = usual if type(usual) is type(value) else None
            options = _changed_options(value, base, exclude, f"{place}{name}.")
            if options or base is None:
                changed[key] = options
        elif value != usual:
            changed[key] = dumped[name]
    return changed
