"""Command-line arguments to a configuration: YAML layers, then KEY=VALUE, then --flags."""

import contextlib
import io
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

import tyro
import yaml
from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticUndefined

from ucn.config import FrozenConfig, explain
from ucn.errors import UserError

Model = TypeVar("Model", bound=FrozenConfig)


def parse(
    model: type[Model], args: Sequence[str], prog: str, description: str, *, layered: bool = False
) -> Model:
    """Parse a command's arguments.

    Args:
        model: what they describe; its fields are the flags.
        args: without the command's own name.
        prog: shown as the command's name.
        description: shown in its help.
        layered: accept ``--config FILE`` (later files win) and ``KEY=VALUE`` before the flags.

    Raises:
        UserError: a file is missing or no YAML, a name is unknown, a value does not fit.
        SystemExit: with 0 after help.
    """
    default: Model | None = None
    if layered:
        values, args = read_layers(args, model)
        description += "\n\nAlso: --config FILE.yaml (repeatable) and KEY=VALUE, before the flags."
        default = _partial(model, values, "")
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            parsed = tyro.cli(
                model, args=list(args), prog=prog, description=description, default=default
            )
    except SystemExit as end:
        if not end.code:
            raise
        raise UserError(f"{_condense(complaint.getvalue())}; see {prog} --help") from None
    return cast(Model, parsed)


def read_layers(
    args: Sequence[str], model: type[FrozenConfig] | None = None
) -> tuple[dict[str, Any], list[str]]:
    """Take ``--config FILE`` and ``KEY=VALUE`` out of the arguments and merge them.

    From the first flag on words are the flags' values, such as ``--model NAME=FOLDER``.

    Args:
        args: the command's arguments.
        model: what the values describe. With it, a layer that uses the old name of a renamed
            option can override one that uses the new name, and the other way round.

    Returns:
        The merged values, and the arguments that are left.

    Raises:
        UserError: a file is missing or no YAML mapping.
    """
    values: dict[str, Any] = {}

    def add(layer: Mapping[str, Any]) -> None:
        nonlocal values
        values = merge(values, model.with_new_names(layer) if model else layer)

    assignments: list[str] = []
    rest: list[str] = []
    waiting = list(args)
    while waiting:
        word = waiting.pop(0)
        if word == "--config":
            if not waiting:
                raise UserError("--config: names no file; give a YAML file")
            add(_read_yaml(Path(waiting.pop(0))))
        elif word.startswith("--config="):
            add(_read_yaml(Path(word.partition("=")[2])))
        elif not rest and not word.startswith("-") and "=" in word:
            assignments.append(word)
        else:
            rest.append(word)
    for assignment in assignments:
        key, _, text = assignment.partition("=")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise UserError(f"{assignment}: the value is not YAML; quote it") from None
        for part in reversed(key.split(".")):
            value = {part: value}
        add(value)
    return values, rest


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one tree of values over another; lists and scalars replace."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = (
            merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
        )
    return merged


def _condense(box: str) -> str:
    """What a framed complaint says, up to its first rule, in one line."""
    lines = [line.strip("│╭╮╰╯ ") for line in box.splitlines()]
    body = itertools.takewhile(lambda line: set(line) != {"─"}, lines[1:])
    return " ".join(" ".join(body).split())


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; see configs/ for examples") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        first = " ".join(str(error).split())
        raise UserError(f"{path}: cannot be read as YAML ({first}); mend the file") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: holds no options; write NAME: VALUE lines")
    return values


def _partial(model: type[Model], values: Mapping[str, Any], place: str) -> Model:
    """An instance for tyro to start from; what is required and not given is left for the flags."""
    unknown = sorted(set(values) - set(model.model_fields))
    if unknown:
        known = ", ".join(model.model_fields)
        raise UserError(f"{place}{unknown[0]}: no such option; there are {known}")
    fields: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, FrozenConfig):
            below = values.get(name, {})
            if not isinstance(below, Mapping):
                raise UserError(f"{place}{name}: {below!r} where options are expected")
            fields[name] = _partial(kind, below, f"{place}{name}.")
        elif name in values:
            declared: Any = Annotated[cast(Any, kind), None, *field.metadata]
            annotated: TypeAdapter[Any] = TypeAdapter(declared)
            try:
                fields[name] = annotated.validate_python(values[name])
            except ValidationError as error:
                raise UserError(f"{place}{name}: {explain(error)}") from None
        else:
            default = field.get_default(call_default_factory=True)
            fields[name] = tyro.MISSING if default is PydanticUndefined else default
    return cast(Model, model.model_construct(**fields))
