"""The jobs of a cluster as text and as JSON."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from ucn.errors import UserError
from ucn.pipeline.cluster.client import JobsClient, as_user_error
from ucn.pipeline.cluster.states import JobState, attempts_of, job_states
from ucn.pipeline.cluster.words import lasting

_HEADER = ("JOB", "STAGE", "STATE", "SUBMITTED (UTC)", "TOOK", "MESSAGE")


def all_jobs(client: JobsClient) -> list[JobState]:
    """The attempts at all jobs that `ucn submit` has started there, the latest last.

    Raises:
        UserError: the cluster does not answer.
    """
    with as_user_error(client.address):
        return job_states(client.list_jobs())


def one_job(client: JobsClient, wanted: str) -> list[JobState]:
    """The attempts at one job, the latest last.

    Args:
        client: of the cluster.
        wanted: id of the job, or the name of one attempt.

    Raises:
        UserError: there is none, or the cluster does not answer.
    """
    with as_user_error(client.address):
        found = attempts_of(client.list_jobs(), wanted)
    if not found:
        raise UserError(
            f"{wanted}: no such job at {client.address}; `ucn status` lists those there are"
        )
    return found


def log_of(client: JobsClient, job: JobState) -> str:
    """What the job has written so far.

    Raises:
        UserError: the cluster does not answer, or the log is gone with its node.
    """
    with as_user_error(client.address):
        log: str = client.get_job_logs(job.name)
    return log


def as_table(jobs: Sequence[JobState], now: datetime | None = None) -> str:
    """A line a job."""
    rows = [_HEADER]
    for job in jobs:
        took = lasting(job.started, job.ended or now)
        rows.append((job.name, job.stage, job.state, _moment(job.started), took, job.message))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def as_detail(attempts: Sequence[JobState], now: datetime | None = None) -> str:
    """The latest attempt, a line a fact, and how the earlier ones ended."""
    job = attempts[-1]
    facts = {
        "job": job.name,
        "stage": job.stage,
        "state": job.state,
        "message": job.message,
        "submitted": _moment(job.started),
        "ended": _moment(job.ended),
        "took": lasting(job.started, job.ended or now),
        "exit code": str(job.exit_code) if job.is_over else "",
        "configuration": job.configuration,
    }
    for earlier in attempts[:-1]:
        facts[f"attempt {earlier.attempt}"] = ": ".join(
            filter(None, (earlier.state, earlier.message))
        )
    width = max(map(len, facts))
    return "\n".join(f"{name:{width}}  {value}" for name, value in facts.items() if value)


def as_json(job: JobState) -> dict[str, Any]:
    """One attempt for machines; times in ISO 8601, UTC."""
    return {
        "name": job.name,
        "id": job.id,
        "attempt": job.attempt,
        "stage": job.stage,
        "state": job.state,
        "submitted": job.started and job.started.isoformat(timespec="seconds"),
        "ended": job.ended and job.ended.isoformat(timespec="seconds"),
        "exit_code": job.exit_code if job.is_over else None,
        "message": job.message,
        "configuration": job.configuration,
        "digest": job.digest,
    }


def _moment(moment: datetime | None) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S") if moment else ""
