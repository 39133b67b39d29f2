"""The `ucn` command: runs a subcommand and turns errors into exit codes.

Heavy packages are imported by the subcommands only.
"""

import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version

from ucn.errors import UserError, did_you_mean
from ucn.pipeline import commands
from ucn.pipeline.cluster import commands as cluster
from ucn.pipeline.doctor.command import doctor
from ucn.pipeline.environment import complete_environment
from ucn.pipeline.help import columns
from ucn.pipeline.import_model import import_model
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
    "preprocess": _Command(
        "make verified correspondence shards from a dataset", commands.preprocess
    ),
    "inspect": _Command("statistics of shards, and pictures of the matches", commands.inspect),
    "verify": _Command("check shards: checksums, counts, every sample", commands.verify),
    "train": _Command("train a network on shards", commands.train),
    "evaluate": _Command("PCK and pose accuracy of models and baselines", commands.evaluate),
    "match": _Command("match photos", commands.match),
    "import": _Command("make a model folder of a published checkpoint", import_model),
    "run": _Command("preprocess, train and evaluate, resuming what is done", commands.run),
    "presets": _Command("list the configurations that come with ucn", commands.presets),
    "baselines": _Command("list the baselines of ucn evaluate", commands.baselines),
    "sync": _Command("deliver to MLflow what it has missed", commands.sync),
    "submit": _Command("run a stage as a job of a Ray cluster", cluster.submit),
    "status": _Command("list the jobs on a cluster", cluster.status),
    "doctor": _Command("check this machine, the cluster, storage and MLflow", doctor),
    "demo": _Command("the same on synthetic scenes, with a report", commands.demo),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 on success; 2 for an error of the user, 1 for an unexpected one, both in one line.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    complete_environment()
    if not args or args[0] in ("-h", "--help"):
        sys.stdout.write(_help())
        return _DONE if args else _USER_ERROR
    if args[0] == "--version":
        sys.stdout.write(f"ucn {version('ucn')}\n")
        return _DONE
    command = _COMMANDS.get(args[0])
    if command is None:
        hint = did_you_mean(args[0], _COMMANDS)
        return _fail(
            _USER_ERROR, f"{args[0]}: unknown command; {hint}choose from {', '.join(_COMMANDS)}"
        )
    try:
        return command.run(args[1:])
    except UserError as error:
        return _fail(_USER_ERROR, " ".join(str(error).split()))
    except KeyboardInterrupt:
        return _fail(130, "interrupted; the same command resumes")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _DONE
    except Exception as error:
        if os.environ.get(DEBUG):
            raise
        what = _in_short(f"{type(error).__name__}: {error}")
        return _fail(_FAULT, f"fault: {what}; please report it, with the traceback of {DEBUG}=1")


def _fail(code: int, message: str) -> int:
    sys.stderr.write(f"ucn: {message}\n")
    return code


def _in_short(text: str) -> str:
    """One line without credentials and colours. The end of Ray's errors names their cause."""
    line = redact(" ".join(_COLOUR.sub("", text).split()))
    return line if len(line) <= _LONGEST else f"{line[:_START]} ... {line[_START - _LONGEST :]}"


def _help() -> str:
    commands = columns({name: command.summary for name, command in _COMMANDS.items()})
    return (
        "usage: ucn COMMAND [options], or ucn --version\n\n"
        "Universal Correspondence Network: the nearest descriptor is the match.\n\n"
        f"{commands}\n\n"
        "ucn COMMAND --help lists the options of a command. Start with: ucn demo\n"
    )


if __name__ == "__main__":
    sys.exit(main())
