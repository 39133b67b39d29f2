"""The `ucn` command: finds the subcommand, turns errors into exit codes.

Nothing heavy is imported before a subcommand runs.
"""

import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ucn.errors import UserError
from ucn.pipeline import commands
from ucn.pipeline.cluster import commands as cluster
from ucn.pipeline.doctor.command import doctor
from ucn.pipeline.stages import DEBUG
from ucn.storage.addresses import redact

_DONE, _FAULT, _USER_ERROR = 0, 1, 2
_LONGEST, _START = 500, 200
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class _Command:
    summary: str
    run: Callable[[Sequence[str]], int]


_COMMANDS = {
    "preprocess": _Command("raw dataset to verified correspondence shards", commands.preprocess),
    "inspect": _Command("draw the matches of shards", commands.inspect),
    "verify": _Command("check shards: checksums, counts, every sample", commands.verify),
    "train": _Command("train a network on shards", commands.train),
    "evaluate": _Command("PCK and pose of a model and of baselines", commands.evaluate),
    "match": _Command("match two photos", commands.match),
    "run": _Command("preprocess, train and evaluate, resuming what is done", commands.run),
    "submit": _Command("run one of these as a job of a Ray cluster", cluster.submit),
    "status": _Command("the jobs on a cluster", cluster.status),
    "doctor": _Command("what of this machine, cluster and servers is in order", doctor),
    "demo": _Command("the same on worlds made on the spot, with a report", commands.demo),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 when done; 2 for what the user must mend, said in one line; 1 for a fault of ours.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    if not args or args[0] in ("-h", "--help"):
        sys.stdout.write(_help())
        return _DONE if args else _USER_ERROR
    command = _COMMANDS.get(args[0])
    if command is None:
        return _fail(_USER_ERROR, f"{args[0]}: no such command; there are {', '.join(_COMMANDS)}")
    try:
        return command.run(args[1:])
    except UserError as error:
        return _fail(_USER_ERROR, " ".join(str(error).split()))
    except KeyboardInterrupt:
        return _fail(130, "interrupted; the same command goes on where it stopped")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _DONE
    except Exception as error:
        if os.environ.get(DEBUG):
            raise
        what = _in_short(f"{type(error).__name__}: {error}")
        return _fail(_FAULT, f"fault: {what}; please report it with {DEBUG}=1's traceback")


def _fail(code: int, message: str) -> int:
    sys.stderr.write(f"ucn: {message}\n")
    return code


def _in_short(text: str) -> str:
    """One line without secrets and colours; Ray's errors end with what caused them."""
    line = redact(" ".join(_COLOUR.sub("", text).split()))
    return line if len(line) <= _LONGEST else f"{line[:_START]} ... {line[_START - _LONGEST :]}"


def _help() -> str:
    width = max(map(len, _COMMANDS))
    lines = [f"  {name:{width}}  {command.summary}" for name, command in _COMMANDS.items()]
    return "\n".join(
        [
            "usage: ucn COMMAND [options]",
            "",
            "Universal Correspondence Network: the nearest descriptor is the match.",
            "",
            *lines,
            "",
            "ucn COMMAND --help says more. Try: ucn demo",
            "",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
