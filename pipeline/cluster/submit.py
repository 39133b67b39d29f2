"""Submitting a job so that the same job is never there twice, and following it to its end."""

import time
from pathlib import Path
from typing import Any, NamedTuple

from ucn.errors import UserError
from ucn.pipeline.cluster.client import BROKEN, JobsClient, JobsError, as_user_error
from ucn.pipeline.cluster.follow import PATIENCE_S, Tell, follow
from ucn.pipeline.cluster.job import Job
from ucn.pipeline.cluster.states import JobState, attempts_of, job_state
from ucn.pipeline.cluster.words import ago
from ucn.pipeline.stages import DEBUG

SUBMIT_PATIENCE_S = 60.0
"""How long a cluster that takes no job yet is asked again."""
_WAIT_S = 1.0


class Submitted(NamedTuple):
    """A job that the cluster has.

    Attributes:
        name: Ray's id of the attempt that counts.
        state: of an attempt that was there before; None of one that was started now.
    """

    name: str
    state: JobState | None


def submit(
    client: JobsClient,
    job: Job,
    tell: Tell,
    *,
    again: bool = False,
    working_dir: Path | None = None,
    debug: bool = False,
    patience_s: float = SUBMIT_PATIENCE_S,
) -> Submitted:
    """Have a job on a cluster, once.

    A job that waits, runs or has succeeded is left as it is. One that failed or was stopped is
    started anew, as the next attempt: it goes on where the last one stopped.

    Args:
        client: of the cluster.
        job: what to run.
        tell: takes lines that say what was found and done.
        again: start anew what has succeeded, too.
        working_dir: folder to ship to the nodes.
        debug: the log of a job that is started has the traceback of a fault of ours.
        patience_s: how long to try again where the cluster takes no job yet.

    Raises:
        UserError: the cluster refuses or does not answer, or its job of that id has another
            configuration.
    """
    deadline = time.monotonic() + patience_s
    with as_user_error(client.address):
        earlier = attempts_of(client.list_jobs(), job.id)
    last = earlier[-1] if earlier else None
    if last is not None:
        _refuse_other(last, job)
        if not last.is_over or (last.state == "SUCCEEDED" and not again):
            return Submitted(last.name, last)
        why = f": {last.message}" if last.message else ""
        tell(f"{last.name}: {last.state} {ago(last.ended)}{why}")
    attempt = last.attempt + 1 if last else 1
    name = job.name(attempt)
    runtime_env: dict[str, Any] = {}
    if working_dir:
        runtime_env["working_dir"] = str(working_dir.absolute())
    if debug:
        runtime_env["env_vars"] = {DEBUG: "1"}
    while True:
        try:
            client.submit_job(
                entrypoint=job.entrypoint,
                submission_id=name,
                metadata=job.metadata(attempt),
                runtime_env=runtime_env,
            )
            return Submitted(name, None)
        except (*BROKEN, JobsError) as error:
            # The answer to a submission that succeeded may be lost, and another client may have
            # submitted the same job in between.
            if (found := _find(client, name)) is not None:
                _refuse_other(found, job)
                return Submitted(name, found)
            if not isinstance(error, BROKEN) or time.monotonic() > deadline:
                with as_user_error(client.address):
                    raise
        except ValueError as error:
            # What Ray says of a folder that is too large, or cannot be packed.
            raise UserError(f"--working-dir: {' '.join(str(error).split())}") from None
        time.sleep(_WAIT_S)


def _refuse_other(found: JobState, job: Job) -> None:
    if found.digest != job.digest:
        raise UserError(
            f"{job.id}: the cluster has a job of this id with another configuration "
            f"({found.stage}, {found.state}); choose another --id"
        )


def _find(client: JobsClient, name: str) -> JobState | None:
    try:
        details = client.get_job_info(name)
    except (*BROKEN, JobsError):
        return None
    state = job_state(details)
    if state is None:
        raise UserError(f"{name}: the cluster has a job of this id that is not ours; give --id")
    return state


def follow_to_end(
    client: JobsClient, name: str, show: Tell, tell: Tell, patience_s: float = PATIENCE_S
) -> JobState:
    """Show the log of a job of ours until it ends; see :func:`.follow.follow`."""
    state = job_state(follow(client, name, show, tell, patience_s))
    assert state is not None, "a job keeps its metadata"
    return state
