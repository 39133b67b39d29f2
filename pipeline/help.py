"""The help of a command, from its configuration class, wrapped to the width of the terminal."""

import shutil
import textwrap
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import tyro
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from ucn.config import FrozenConfig

_WORDS: Mapping[Any, str] = {int: "INT", float: "NUMBER", str: "TEXT", Path: "PATH"}
_LONGEST_LINE = 100


def render_help(
    model: type[FrozenConfig], prog: str, description: str, default: FrozenConfig | None = None
) -> str:
    """Formats the help of a command.

    Args:
        model: class whose fields are the flags; the fields of nested configurations form groups.
        prog: name of the command.
        description: paragraphs that say what the command does.
        default: shown as the defaults; None for those of the class.
    """
    width = _width()
    positional = [
        (name, field) for name, field in model.model_fields.items() if _is(field, "Positional")
    ]
    usage = " ".join([f"usage: {prog}", *(_metavar(name, field) for name, field in positional)])
    parts = [f"{usage} [options]"]
    parts += [textwrap.fill(text, width) for text in description.split("\n\n") if text.strip()]
    if positional:
        lines = (_entry(_metavar(name, one), one, None, width) for name, one in positional)
        parts.append("\n".join(lines))
    parts += ["\n".join(group) for group in _groups(model, default, "", "options:", width)]
    return "\n\n".join(parts) + "\n"


def columns(texts: Mapping[str, str]) -> str:
    """Formats names, each with a text beside it."""
    indent = max(map(len, texts)) + 4
    return "\n".join(
        textwrap.fill(
            text,
            _width(),
            initial_indent=f"  {name}".ljust(indent),
            subsequent_indent=" " * indent,
            break_on_hyphens=False,
        )
        for name, text in texts.items()
    )


def _width() -> int:
    return min(shutil.get_terminal_size().columns, _LONGEST_LINE)


def _groups(
    model: type[FrozenConfig], default: FrozenConfig | None, place: str, title: str, width: int
) -> Iterator[list[str]]:
    """Lines of the options of a configuration, then of those nested in it."""
    lines = [title]
    nested: list[Iterator[list[str]]] = []
    for name, field in model.model_fields.items():
        if default is None:
            value = field.get_default(call_default_factory=True)
        else:
            value = getattr(default, name)
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, FrozenConfig):
            text = " ".join((kind.__doc__ or "").split("\n\n")[0].split())
            below = value if isinstance(value, FrozenConfig) else None
            nested.append(_groups(kind, below, f"{place}{name}.", f"{name}: {text}", width))
        elif not _is(field, "Positional") and not _has_one_value(kind):
            lines.append(_entry(_flag(f"{place}{name}", name, field), field, value, width))
    if len(lines) > 1:
        yield lines
    for group in nested:
        yield from group


def _entry(heading: str, field: FieldInfo, value: Any, width: int) -> str:
    text = " ".join((field.description or "").split())
    if value is tyro.MISSING or (field.is_required() and not _is(field, "Positional")):
        text += " (required)"
    elif shown := _shown(value):
        text += f" (default: {shown})"
    indent = " " * 6
    return f"  {heading}\n" + textwrap.fill(
        text.strip(), width, initial_indent=indent, subsequent_indent=indent
    )


def _flag(path: str, name: str, field: FieldInfo) -> str:
    given = next((one.name for one in field.metadata if getattr(one, "name", None)), name)
    flag = f"--{(path.removesuffix(name) + given).replace('_', '-')}"
    if field.annotation is not bool:
        return f"{flag} {_metavar(name, field)}"
    parent, _, last = flag.removeprefix("--").rpartition(".")
    no = f"--{parent}.no-{last}" if parent else f"--no-{last}"
    return flag if _is(field, "FlagCreatePairsOff") else f"{flag}, {no}"


def _metavar(name: str, field: FieldInfo) -> str:
    for one in field.metadata:
        if metavar := getattr(one, "metavar", None):
            return str(metavar)
    return name.upper() if _is(field, "Positional") else _word(field.annotation)


def _word(kind: Any) -> str:
    """What to give for a type, such as INT, ``{adamw,sgd}`` or ``TEXT ...`` for several texts."""
    origin, inner = get_origin(kind), [one for one in get_args(kind) if one is not type(None)]
    if origin is Annotated:
        return _word(inner[0])
    if origin in (Union, types.UnionType):
        return _word(inner[0]) if len(inner) == 1 else "VALUE"
    if origin is Literal:
        return f"{{{','.join(map(str, inner))}}}"
    if origin is tuple:
        several = inner[-1] is ...
        return f"{_word(inner[0])} ..." if several else " ".join(map(_word, inner))
    if origin is dict:
        return "NAME VALUE ..."
    return _WORDS.get(kind, "VALUE")


def _shown(value: Any) -> str:
    """A default as the user would type it; empty for None and for nothing."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple):
        return " ".join(map(_shown, value))
    return "" if value in (None, {}, PydanticUndefined) else str(value)


def _has_one_value(kind: Any) -> bool:
    """Whether an option has only one value, like the name of a source in its own class."""
    return get_origin(kind) is Literal and len(get_args(kind)) == 1


def _is(field: FieldInfo, marker: str) -> bool:
    return any(str(one) == marker for one in field.metadata)
