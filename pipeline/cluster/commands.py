"""`ucn submit` and `ucn status`: parse, talk to the cluster, print."""

import json
import os
import sys
from collections.abc import Sequence

from ucn.errors import UserError
from ucn.pipeline.arguments import parse
from ucn.pipeline.assignments import read_values, split_assignments
from ucn.pipeline.cluster.address import dashboard_address
from ucn.pipeline.cluster.arguments import StatusArguments, SubmitArguments
from ucn.pipeline.stages import DEBUG

_SUBMIT = """Run a stage as a job of a Ray cluster: submit it, follow its log, return its exit code.

Also: KEY=VALUE words change options of the configuration, such as steps=800; paths in it must be
absolute, as the nodes see them, or URIs. `ucn` must be installed on the nodes.

The same stage and configuration are the same job. Submitting it again comes back to it where it
waits or runs, shows how it ended where it has succeeded (--again starts it anew), and starts it
anew where it failed or was stopped: it goes on where it stopped. Ctrl-C leaves the job running.

Exit code: that of the command on the cluster; 1 where the job was stopped or killed."""
_STATUS = "The jobs that `ucn submit` has started on a cluster."


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
    address = dashboard_address(arguments.address, os.environ)
    from ucn.pipeline.cluster.job import plan_job

    job = plan_job(arguments.stage, values, arguments.id)

    from ucn.pipeline.cluster.client import JobsClient
    from ucn.pipeline.cluster.submit import follow_to_end, submit
    from ucn.pipeline.cluster.words import ago, lasting

    client = JobsClient(address)
    name, earlier = submit(
        client,
        job,
        _tell,
        again=arguments.again,
        working_dir=folder,
        debug=bool(os.environ.get(DEBUG)),
    )
    if earlier is None:
        _tell(f"{name}: submitted to {address}")
    elif earlier.is_over:
        _tell(f"{name}: {earlier.state} {ago(earlier.ended)}; --again starts it anew")
    else:
        _tell(f"{name}: {earlier.state} for {lasting(earlier.started)}; coming back to it")
    if arguments.detach:
        _print(name)
        return 0
    if earlier is None or not earlier.is_over:
        _tell(f"Ctrl-C leaves it running; `ray job stop {name} --address {address}` stops it")
    try:
        state = follow_to_end(client, name, _show, _tell)
    except KeyboardInterrupt:
        _tell(
            f"{name} goes on at {address}; the same command comes back to it, and `ucn status "
            f"{job.id} --address {address}` tells how it stands"
        )
        return 130
    if earlier is None or not earlier.is_over:
        _tell(f"{name}: {state.state}" + (f": {state.message}" if state.message else ""))
    return state.exit_code


def status(args: Sequence[str]) -> int:
    """`ucn status [ID]`"""
    arguments = parse(StatusArguments, args, "ucn status", _STATUS)
    if arguments.log and arguments.id is None:
        raise UserError("--log: of which job? give its ID")
    address = dashboard_address(arguments.address, os.environ)
    from ucn.pipeline.cluster import status as report
    from ucn.pipeline.cluster.client import JobsClient

    client = JobsClient(address)
    if arguments.id is None:
        jobs = report.all_jobs(client)
        if arguments.as_json:
            _print(json.dumps([report.as_json(job) for job in jobs], indent=1))
        elif jobs:
            _print(report.as_table(jobs))
        else:
            _tell(f"{address}: no jobs of `ucn submit` there")
        return 0
    attempts = report.one_job(client, arguments.id)
    if arguments.log:
        _show(report.log_of(client, attempts[-1]))
    elif arguments.as_json:
        _print(json.dumps([report.as_json(job) for job in attempts], indent=1))
    else:
        _print(report.as_detail(attempts))
    return 0


def _tell(line: str) -> None:
    sys.stderr.write(f"ucn: {line}\n")
    sys.stderr.flush()


def _show(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _print(line: str) -> None:
    _show(f"{line}\n")
