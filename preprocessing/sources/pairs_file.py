"""Lists of image pairs, as text files: one pair a line."""

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

from pydantic import PlainSerializer

from ucn.errors import UserError
from ucn.preprocessing.sources.base import PairRef
from ucn.preprocessing.sources.input_files import file_digest, read_lines

_DIGEST = "sha256:"


def _identity(path: str) -> str:
    """Digest of the file. The digest in a stored configuration stands for itself."""
    return path if path.startswith(_DIGEST) else f"{_DIGEST}{file_digest(Path(path))}"


PairsFile = Annotated[str, PlainSerializer(_identity, when_used="json")]
"""Path of a list of pairs. Configurations are compared and stored with the file's digest."""


def read_pairs_file(path: Path) -> dict[int, tuple[str, str]]:
    """Read the two names in each line, by line number.

    Names are separated by tabs, or by blanks if the line has no tab. Further columns, empty lines
    and lines that start with # are ignored. So files of SuperGlue and hloc can be read.

    Raises:
        UserError: the file cannot be read, has no pairs, or a line has one name.
    """
    try:
        lines = read_lines(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as text ({error}); check --pairs-file") from None
    pairs: dict[int, tuple[str, str]] = {}
    for number, line in enumerate(lines, 1):
        text = line.strip()
        names = [name.strip() for name in text.split("\t")] if "\t" in text else text.split()
        if not names or names[0].startswith("#"):
            continue
        if len(names) < 2 or not all(names[:2]):
            raise UserError(f"{path}: line {number} has one name; write two a line")
        pairs[number] = names[0], names[1]
    if not pairs:
        raise UserError(f"{path}: holds no pairs; write two names a line")
    return pairs


def find_listed_pairs(
    path: Path,
    places: Sequence[tuple[str, str]],
    frames: Callable[[str], Mapping[str, str]],
) -> list[PairRef]:
    """The pairs of a list, in its order.

    Args:
        path: the list.
        places: prefixes of names, such as ``SCENE``, and the sequence that each stands for. Names
            of the only sequence need no prefix. Folders before a prefix are ignored.
        frames: returns the frames of a sequence by the rest of their names. It is called only for
            sequences that the list names.

    Raises:
        UserError: the list is malformed, names an unknown image, pairs images of two sequences or
            an image with itself, or repeats a pair.
    """
    sequences = {sequence for _, sequence in places}
    places = [*places, *(("", sequence) for sequence in sequences if len(sequences) == 1)]
    found: dict[PairRef, int] = {}
    for number, names in read_pairs_file(path).items():
        line = f"{path}: line {number}"
        images = [_find(name, places, frames) for name in names]
        for name, known in zip(names, images, strict=True):
            if not known:
                raise UserError(f"{line}: no image {name}{_near(name, places, frames)}")
        # Several models can have an image. The first one that has both is taken.
        shared = [sequence for sequence in images[0] if sequence in images[1]]
        if not shared:
            raise UserError(f"{line}: {names[0]} and {names[1]} are of two scenes; pair one's own")
        pair = PairRef(shared[0], images[0][shared[0]], images[1][shared[0]])
        if pair.frame0 == pair.frame1:
            raise UserError(f"{line}: {names[0]} is paired with itself; remove the line")
        if found.setdefault(pair, number) != number:
            raise UserError(f"{line}: the pair of line {found[pair]} again; remove one")
    return list(found)


def _find(
    name: str, places: Sequence[tuple[str, str]], frames: Callable[[str], Mapping[str, str]]
) -> dict[str, str]:
    """Frames of an image by sequence."""
    rests = ((sequence, _rest(name, prefix)) for prefix, sequence in places)
    return {
        sequence: frames(sequence)[rest]
        for sequence, rest in rests
        if rest is not None and rest in frames(sequence)
    }


def _near(
    name: str, places: Sequence[tuple[str, str]], frames: Callable[[str], Mapping[str, str]]
) -> str:
    """Ends a message with similar names."""
    known = [
        f"{prefix}/{rest}" if prefix else rest
        for prefix, sequence in places
        if _rest(name, prefix) is not None
        for rest in frames(sequence)
    ]
    near = get_close_matches(name, known, 3, 0)
    if not near:
        scene = name.partition("/")[0]
        near = [f"{one}/..." for one in get_close_matches(scene, [one for one, _ in places], 3, 0)]
    return f"; there are {', '.join(near)}"


def _rest(name: str, prefix: str) -> str | None:
    """The name behind a prefix and any folders before it; None if it does not have the prefix."""
    if not prefix:
        return name
    _, found, rest = f"/{name}".partition(f"/{prefix}/")
    return rest if found else None
