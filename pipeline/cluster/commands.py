"""`ucn submit` and `ucn status`: arguments and output."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from ucn.config import FrozenConfig
from ucn.errors import UserError
from ucn.pipeline.arguments import parse, read_values, split_assignments
from ucn.pipeline.stages import DEBUG, Stage

_SUBMIT = """Run a stage as a job of a Ray cluster: submit it, follow its log, return its exit code.

KEY=VALUE words change options of the configuration, such as steps=800. Paths in it must be
absolute, as the nodes see them, or URIs. `ucn` must be installed on the nodes.

The same stage and configuration are the same job. Submitting it again follows a job that is pending
or running, shows the result of one that has succeeded (--again runs it again), and resumes one that
failed or was stopped. Ctrl-C leaves the job running.

Exit code: that of the command on the cluster; 1 if the job was stopped or killed."""
_STATUS = "List the jobs that `ucn submit` has started on a cluster."


class ClusterArguments(FrozenConfig):
    """The cluster."""

    address: Annotated[str | None, tyro.conf.arg(metavar="URL")] = None
    """Dashboard, http://HOST:8265; otherwise from Ray's environment variables."""


class SubmitArguments(ClusterArguments):
    """Arguments of `ucn submit`."""

    stage: tyro.conf.Positional[Stage]
    """Command to run on the cluster."""
    config: Annotated[
        tyro.conf.UseAppendAction[tuple[Path, ...]], tyro.conf.arg(metavar="FILE")
    ] = ()
    """Configuration of the command, a local YAML file; later files win."""
    id: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """ID of the job; otherwise made from stage and configuration."""
    detach: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print the job's ID and return without following the log."""
    again: tyro.conf.FlagCreatePairsOff[bool] = False
    """Run a job again that has succeeded."""
    working_dir: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Copy this folder to the nodes and run in it, such as src/ of a checkout."""


class StatusArguments(ClusterArguments):
    """Arguments of `ucn status`."""

    id: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[ID]")] = None
    """Show one job in detail; otherwise list all."""
    log: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print the log of the job ID."""
    as_json: Annotated[tyro.conf.FlagCreatePairsOff[bool], tyro.conf.arg(name="json")] = False
    """Print JSON."""


def submit(args: Sequence[str]) -> int:
    """`ucn submit STAGE --address ADDRESS --config FILE [KEY=VALUE ...]`"""
    assignments, words = split_assignments(args)
    arguments = parse(SubmitArguments, words, "ucn submit", _SUBMIT)
    values = read_values(arguments.config, assignments)
    if not values:
        raise UserError(f"{arguments.stage}: no configuration; give --config FILE or KEY=VALUE")
    folder = arguments.working_dir
    if folder is not None and not folder.is_dir():
        raise UserError(f"--working-dir {folder}: no such folder")
    from ucn.pipeline.cluster.client import JobsClient, dashboard_address
    from ucn.pipeline.cluster.job import plan_job
    from ucn.pipeline.cluster.submit import follow, submit

    address = dashboard_address(arguments.address, os.environ)
    job = plan_job(arguments.stage, values, arguments.id)
    client = JobsClient(address)
    debug = bool(os.environ.get(DEBUG))
    name, earlier = submit(
        client, job, _tell, again=arguments.again, working_dir=folder, debug=debug
    )
    was_over = earlier is not None and earlier.exit_code is not None
    if earlier is None:
        _tell(f"{name}: submitted to {address}")
    elif was_over:
        _tell(f"{name}: {earlier.outcome}; --again runs it again")
    else:
        _tell(f"{name}: {earlier.state} for {earlier.took()}; following it again")
    if arguments.detach:
        _show(f"{name}\n")
        return 0
    if not was_over:
        _tell(f"Ctrl-C leaves it running; `ray job stop {name} --address {address}` stops it")
    try:
        state = follow(client, name, _show, _tell)
    except KeyboardInterrupt:
        _tell(
            f"{name} continues at {address}; the same command follows it again, `ucn status "
            f"{job.id} --address {address}` shows its state"
        )
        return 130
    if not was_over:
        _tell(f"{name}: {state.state}" + (f": {state.message}" if state.message else ""))
    return state.exit_code or 0


def status(args: Sequence[str]) -> int:
    """`ucn status [ID]`"""
    arguments = parse(StatusArguments, args, "ucn status", _STATUS)
    wanted = arguments.id
    if arguments.log and wanted is None:
        raise UserError("--log: give the ID of a job")
    from ucn.pipeline.cluster import status as report
    from ucn.pipeline.cluster.client import JobsClient, dashboard_address

    client = JobsClient(dashboard_address(arguments.address, os.environ))
    all_jobs = client.jobs()
    jobs = report.job_states(all_jobs) if wanted is None else report.attempts_of(all_jobs, wanted)
    if wanted is not None and not jobs:
        raise UserError(f"{wanted}: no such job at {client.address}; `ucn status` lists all jobs")
    if arguments.log:
        _show(client.log(jobs[-1].name))
    elif arguments.as_json:
        _show(json.dumps([report.as_json(job) for job in jobs], indent=1) + "\n")
    elif not jobs:
        _tell(f"{client.address}: no jobs of `ucn submit`")
    else:
        _show((report.as_table(jobs) if wanted is None else report.as_detail(jobs)) + "\n")
    return 0


def _tell(line: str) -> None:
    sys.stderr.write(f"ucn: {line}\n")
    sys.stderr.flush()


def _show(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
