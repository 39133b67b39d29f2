"""Submits a job once, and follows its log until it ends."""

import time
from collections.abc import Callable
from pathlib import Path

from ucn.errors import UserError
from ucn.pipeline.cluster.client import JobsClient, JobsError, UnavailableError
from ucn.pipeline.cluster.job import Job
from ucn.pipeline.cluster.status import JobState, attempts_of, job_state
from ucn.pipeline.stages import DEBUG

SUBMIT_TIMEOUT_S = 60.0
OUTAGE_TIMEOUT_S = 300.0
_POLL_S, _LONGEST_POLL_S = 1.0, 30.0
# Each poll reads the whole log: a long log is polled less often, at this rate on average.
_CHARACTERS_PER_S = 1_000_000

Tell = Callable[[str], None]


def submit(
    client: JobsClient,
    job: Job,
    tell: Tell,
    *,
    again: bool = False,
    working_dir: Path | None = None,
    debug: bool = False,
    timeout_s: float = SUBMIT_TIMEOUT_S,
) -> tuple[str, JobState | None]:
    """Submits a job unless the cluster has it already.

    A job that is pending, running or has succeeded is left alone. A job that failed or was stopped
    is submitted again as its next attempt, which resumes from what is on disk.

    Args:
        tell: takes lines for the user.
        again: also submit a job again that has succeeded.
        working_dir: local folder that is copied to the nodes.
        debug: let the job log tracebacks.
        timeout_s: how long to retry while the cluster does not accept jobs.

    Returns:
        Ray's submission ID, and the state of the attempt if it existed before.

    Raises:
        UserError: the cluster refuses or does not answer, or has another job with this ID.
    """
    deadline = time.monotonic() + timeout_s
    name, has_failed = None, False
    while True:
        try:
            jobs = client.jobs()
            last = next(reversed(attempts_of(jobs, job.id)), None)
            if last is not None:
                if last.digest != job.digest:
                    raise UserError(
                        f"{job.id}: the cluster has a job with this ID and another configuration "
                        f"({last.stage}, {last.state}); choose another --id"
                    )
                # The answer to an accepted submission can be lost, and another client can have
                # submitted the same job.
                was_submitted = last.name == name
                if was_submitted or last.exit_code is None or (last.exit_code == 0 and not again):
                    return last.name, last
                if name is None:
                    tell(f"{last.name}: {last.outcome}")
            attempt = last.attempt + 1 if last else 1
            name = job.name(attempt)
            if any(details.get("submission_id") == name for details in jobs):
                raise UserError(f"{name}: another program has a job with this ID; choose --id")
            request = {
                "entrypoint": job.entrypoint,
                "submission_id": name,
                "metadata": job.metadata(attempt),
                "runtime_env": {"env_vars": {DEBUG: "1"}} if debug else {},
            }
            client.submit(request, working_dir)
            return name, None
        except JobsError as error:
            # After the first failure the cluster may have the job all the same.
            is_late = not isinstance(error, UnavailableError) or time.monotonic() > deadline
            if has_failed and is_late:
                raise
            if not has_failed:
                tell(f"{client.address}: does not accept the job yet; retrying")
            has_failed = True
        time.sleep(_POLL_S)


def follow(
    client: JobsClient,
    name: str,
    show: Tell,
    tell: Tell,
    timeout_s: float = OUTAGE_TIMEOUT_S,
    poll_s: float = _POLL_S,
) -> JobState:
    """Shows the log of a job until it ends.

    Args:
        name: Ray's submission ID.
        show: takes what is new in the log.
        tell: takes lines about the connection.
        timeout_s: how long to retry while the cluster does not answer.
        poll_s: pause between two polls; up to 30 s for long logs.

    Raises:
        UserError: the cluster does not answer for long, or does not know the job any more.
    """
    shown, lost_since = 0, None
    while True:
        pause = poll_s
        try:
            state = job_state(client.job(name) or {})
            if state is None:
                raise UserError(
                    f"{name}: the cluster was restarted and no longer knows this job; the same "
                    "command submits it again"
                )
            log = _read_log(client, name)
        except UnavailableError:
            now = time.monotonic()
            if lost_since is None:
                lost_since = now
                tell(f"{client.address}: connection lost; reconnecting")
            if now - lost_since > timeout_s:
                raise UserError(
                    f"{client.address}: no answer for {timeout_s:.0f} s; the job {name} continues "
                    "if the cluster does; the same command follows it again"
                ) from None
        else:
            if lost_since is not None:
                lost_since = None
                tell(f"{client.address}: connected again")
            if log is not None and len(log) > shown:
                show(log[shown:])
                shown = len(log)
            if state.exit_code is not None:
                if log is None:
                    tell(f"{name}: the end of its log cannot be read")
                return state
            pause = min(max(poll_s, shown / _CHARACTERS_PER_S), _LONGEST_POLL_S)
        time.sleep(pause)


def _read_log(client: JobsClient, name: str) -> str | None:
    """The log; None if the dashboard cannot read it, for example because its node is gone."""
    try:
        return client.log(name)
    except JobsError as error:
        if error.status not in (404, 500):
            raise
        return None
