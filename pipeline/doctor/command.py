"""`ucn doctor`: parse, look, print."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from ucn.config import FrozenConfig
from ucn.pipeline.arguments import parse
from ucn.pipeline.assignments import read_values, split_assignments

_DESCRIPTION = """What of this machine, the cluster and the servers is in order, a line each: ok, a
warning or a problem, with its remedy. Exit code 0, or 2 where there is a problem.

Also: KEY=VALUE words change options of the configuration."""


class DoctorArguments(FrozenConfig):
    """What to look at."""

    config: Annotated[
        tyro.conf.UseAppendAction[tuple[Path, ...]], tyro.conf.arg(metavar="FILE")
    ] = ()
    """Configuration whose inputs, outputs and tracking URI are tried; later ones win."""
    address: Annotated[str | None, tyro.conf.arg(metavar="URL")] = None
    """Dashboard of a cluster to look at, http://HOST:8265; by default that of RAY_ADDRESS."""
    as_json: Annotated[tyro.conf.FlagCreatePairsOff[bool], tyro.conf.arg(name="json")] = False
    """Print JSON."""


def doctor(args: Sequence[str]) -> int:
    """`ucn doctor [--config FILE] [KEY=VALUE ...]`"""
    assignments, words = split_assignments(args)
    arguments = parse(DoctorArguments, words, "ucn doctor", _DESCRIPTION)
    values = read_values(arguments.config, assignments)
    from ucn.pipeline.doctor.finding import as_json, as_lines, has_problem
    from ucn.pipeline.doctor.probes import all_probes
    from ucn.pipeline.doctor.run import run_probes

    findings = run_probes(all_probes(values, os.environ, Path.home(), arguments.address))
    if arguments.as_json:
        sys.stdout.write(json.dumps(as_json(findings), indent=1) + "\n")
    else:
        sys.stdout.write(as_lines(findings) + "\n")
    sys.stdout.flush()
    return 2 if has_problem(findings) else 0
