"""The base of every configuration. Light to import: the command line's help needs it."""

import re
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from ucn.errors import UserError
from ucn.storage.addresses import redact

# s3://BUCKET/FOLDER, also where it has passed through a path.
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/")


class FrozenConfig(BaseModel):
    """A frozen piece of configuration that refuses unknown fields.

    Raises:
        UserError: a value does not fit; one line that names the field.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise UserError(explain(error)) from None

    @model_validator(mode="after")
    def _paths_are_local(self) -> Self:
        """An address that became a path would name a folder ``s3:`` of this machine."""
        for name, value in self:
            if isinstance(value, Path) and _ADDRESS.match(str(value)):
                raise ValueError(
                    f"{name}: {redact(str(value).replace(':/', '://', 1))} is an address; give a "
                    "folder that this machine, or every node of the cluster, sees"
                )
        return self


def explain(error: ValidationError) -> str:
    """The first thing that pydantic refuses, in one line."""
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = "no such option; see --help for the names"
    return f"{place}: {message}" if place else message
