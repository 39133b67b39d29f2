"""From command-line arguments to a configuration: YAML files, KEY=VALUE words, --flags."""

import contextlib
import io
import itertools
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

import tyro
import yaml
from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticUndefined

from ucn.config import FrozenConfig, explain, is_list, option_names, split_list
from ucn.errors import UserError, did_you_mean
from ucn.pipeline.help import render_help
from ucn.pipeline.presets import read_preset

Model = TypeVar("Model", bound=FrozenConfig)

_ASSIGNMENT = re.compile(r"[A-Za-z_][\w.-]*=")
# Flags that take no value.
_SWITCHES = ("--again", "--detach", "--json")


def parse(
    model: type[Model],
    args: Sequence[str],
    prog: str,
    description: str,
    *,
    layered: bool = False,
    words_to: str | None = None,
) -> Model:
    """Parses the arguments of a command.

    Args:
        model: the result's class; its fields are the flags.
        args: without the name of the command.
        prog: name of the command in its help.
        description: text of its help.
        layered: accept ``--config FILE`` (later files win) and ``KEY=VALUE`` before the flags.
        words_to: option that words before the flags belong to, such as ``data.shards``. The last
            part of its name is a flag as well.

    Raises:
        UserError: a file is missing or not YAML, an option is unknown, a value is invalid.
        SystemExit: with 0 after help.
    """
    default: Model | None = None
    if layered:
        values, args = read_layers(args, model)
        description += (
            "\n\nAlso: --config FILE.yaml or PRESET (repeatable) and KEY=VALUE, before the flags. "
            "`ucn presets` lists the presets."
        )
        default = _partial(model, values, "")
    if {"-h", "--help"} & set(args):
        sys.stdout.write(render_help(model, prog, description, default))
        raise SystemExit(0)
    if words_to:
        short, flag = f"--{words_to.rpartition('.')[2]}", f"--{words_to}"
        args = [flag if word == short else word for word in args]
        if args and not args[0].startswith("-"):
            args = [flag, *args]
    args = _expand_lists(model, [_with_new_name(model, word) for word in args])
    message = io.StringIO()
    try:
        with contextlib.redirect_stderr(message):
            parsed = tyro.cli(model, args=args, prog=prog, default=default)
    except SystemExit:
        raise UserError(f"{_condense(message.getvalue())} See {prog} --help") from None
    return cast(Model, parsed)


def read_layers(
    args: Sequence[str], model: type[FrozenConfig] | None = None
) -> tuple[dict[str, Any], list[str]]:
    """Takes ``--config FILE`` and ``KEY=VALUE`` out of the arguments and merges them.

    Words after the first flag are values of flags, such as ``--model NAME=FOLDER``.

    Args:
        args: the command's arguments.
        model: what the values describe. With it, a layer that uses the old name of a renamed
            option can override one that uses the new name, and the other way round.

    Returns:
        The merged values and the other arguments.

    Raises:
        UserError: a file is missing or not a YAML mapping.
    """
    files: list[str] = []
    assignments: list[str] = []
    rest: list[str] = []
    waiting = list(args)
    has_flags = False
    while waiting:
        word = waiting.pop(0)
        if word == "--config":
            if not waiting:
                raise UserError("--config: names no file; give a YAML file or a preset")
            files.append(waiting.pop(0))
        elif word.startswith("--config="):
            files.append(word.partition("=")[2])
        elif not has_flags and _ASSIGNMENT.match(word):
            assignments.append(word)
        else:
            has_flags = has_flags or word.startswith("-")
            rest.append(word)
    return read_values(files, assignments, model), rest


def split_assignments(args: Sequence[str]) -> tuple[list[str], list[str]]:
    """Splits arguments into KEY=VALUE words and all others. The words can stand anywhere."""
    assignments: list[str] = []
    others: list[str] = []
    for before, word in zip(["", *args], args, strict=False):
        is_value = before.startswith("--") and "=" not in before and before not in _SWITCHES
        is_assignment = not is_value and _ASSIGNMENT.match(word)
        (assignments if is_assignment else others).append(word)
    return assignments, others


def read_values(
    files: Sequence[str | Path], assignments: Sequence[str], model: type[FrozenConfig] | None = None
) -> dict[str, Any]:
    """Merges YAML files, then KEY=VALUE words; later ones win.

    Args:
        files: YAML files, or names of presets.
        assignments: KEY=VALUE words.
        model: the configuration that the values are for. With it, a layer that uses the old name of
            a renamed option can override one that uses the new name, and the other way round.

    Raises:
        UserError: a file is missing or not a YAML mapping, or a value is not YAML.
    """
    values: dict[str, Any] = {}

    def add(layer: Mapping[str, Any]) -> None:
        nonlocal values
        values = merge(values, model.with_new_names(layer) if model else layer)

    for path in files:
        add(_read_yaml(path))
    for assignment in assignments:
        key, _, text = assignment.partition("=")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise UserError(f"{assignment}: the value is not YAML; quote it") from None
        for part in reversed(key.split(".")):
            value = {part: value}
        add(value)
    return values


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Merges two nested mappings; values of ``above`` win, lists are replaced."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = (
            merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
        )
    return merged


def _expand_lists(model: type[FrozenConfig], args: Sequence[str]) -> list[str]:
    """Splits the values of list options at commas, and joins those of a repeated list option."""
    segments: dict[str, list[str]] = {"": []}
    current = segments[""]
    splits = False
    for number, word in enumerate(args):
        if not word.startswith("--"):
            current.extend(split_list(word) if splits else [word])
            continue
        flag, equals, value = word.partition("=")
        splits = _takes_list(model, flag)
        key, first = (flag, flag) if splits else (str(number), word)
        current = segments.setdefault(key, [first])
        current.extend(split_list(value) if splits and equals else [])
    return [word for segment in segments.values() for word in segment]


def _takes_list(model: type[FrozenConfig], flag: str) -> bool:
    """Whether a flag takes several values and need not be repeated."""
    owner, _, name = _resolve(model, flag)
    field = owner.model_fields.get(name)
    if field is None or not is_list(field.annotation):
        return False
    return not any(str(marker) == "UseAppendAction" for marker in field.metadata)


def _with_new_name(model: type[FrozenConfig], word: str) -> str:
    """Replaces the old name of a renamed option in a flag; other words are returned unchanged.

    Raises:
        UserError: the values of the option have changed as well.
    """
    flag, equals, value = word.partition("=")
    owner, places, name = _resolve(model, flag)
    if not word.startswith("--") or name not in owner.renamed:
        return word
    new = owner.renamed[name]
    if isinstance(new, tuple):
        raise UserError(
            f"{flag}: is now --{'.'.join([*places, new[0]])}; see --help for its values"
        )
    return f"--{'.'.join([*places, new])}{equals}{value}"


def _resolve(model: type[FrozenConfig], flag: str) -> tuple[type[FrozenConfig], Sequence[str], str]:
    """The configuration that holds the option of a flag, the places above it, and its name.

    An unknown place gives the last known configuration and an empty name.
    """
    *places, name = flag.removeprefix("--").replace("-", "_").split(".")
    for place in places:
        field = model.model_fields.get(place)
        kind = field.annotation if field else None
        if not (isinstance(kind, type) and issubclass(kind, FrozenConfig)):
            return model, places, ""
        model = kind
    return model, places, name


def _condense(box: str) -> str:
    """One line of tyro's framed error message: the error, and the first option it suggests."""
    lines = [line.strip("│╭╮╰╯ ") for line in box.splitlines()]
    error = " ".join(itertools.takewhile(lambda line: set(line) != {"─"}, lines[1:]))
    suggested = [line.split()[0] for line in lines if line.startswith("--")]
    hint = f"; did you mean {suggested[0].rstrip(',')}?" if suggested else "."
    return " ".join(error.split()).rstrip(".") + hint


def _read_yaml(path: str | Path) -> dict[str, Any]:
    try:
        text = Path(path).read_text() if os.path.exists(path) else read_preset(str(path))
        values = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        first = " ".join(str(error).split())
        raise UserError(f"{path}: cannot be read as YAML ({first}); correct the file") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: not a mapping of options; write NAME: VALUE lines")
    return values


def _partial(model: type[Model], values: Mapping[str, Any], place: str) -> Model:
    """An instance with the given values, from which tyro takes its defaults."""
    unknown = sorted(set(values) - set(model.model_fields))
    if unknown:
        hint = did_you_mean(unknown[0], option_names(model))
        known = ", ".join(model.model_fields)
        raise UserError(f"{place}{unknown[0]}: no such option; {hint}there are {known}")
    fields: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, FrozenConfig):
            below = values.get(name, {})
            if not isinstance(below, Mapping):
                raise UserError(f"{place}{name}: {below!r} is not a mapping of options")
            fields[name] = _partial(kind, below, f"{place}{name}.")
        elif name in values:
            declared: Any = Annotated[cast(Any, kind), None, *field.metadata]
            annotated: TypeAdapter[Any] = TypeAdapter(declared)
            value = split_list(values[name]) if is_list(kind) else values[name]
            try:
                fields[name] = annotated.validate_python(value)
            except ValidationError as error:
                raise UserError(f"{place}{name}: {explain(error)}") from None
        else:
            default = field.get_default(call_default_factory=True)
            fields[name] = tyro.MISSING if default is PydanticUndefined else default
    return cast(Model, model.model_construct(**fields))
