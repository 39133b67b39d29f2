"""The jobs of a cluster that are ours, and how they stand."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ucn.pipeline.cluster.job import ATTEMPT, DIGEST, ID, STAGE, configuration_of

_LONGEST_MESSAGE = 300
# What a shell returns for a command that is not there, or cannot be run.
_NO_COMMAND = (126, 127)


@dataclass(frozen=True)
class JobState:
    """One attempt at a job.

    Attributes:
        name: Ray's submission id of the attempt.
        id: of the job.
        attempt: from 1 on.
        stage: the command that it runs.
        configuration: of the stage, YAML.
        digest: SHA-256 of both, hex.
        state: Ray's: PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED.
        started: when it was submitted.
        ended: when it ended; None while it runs.
        driver_code: exit code of the command; None while it runs, or where it never ended by
            itself.
        message: one line.
    """

    name: str
    id: str
    attempt: int
    stage: str
    configuration: str
    digest: str
    state: str
    started: datetime | None
    ended: datetime | None
    driver_code: int | None
    message: str

    @property
    def is_over(self) -> bool:
        """Whether nothing follows any more."""
        return self.state in ("SUCCEEDED", "FAILED", "STOPPED")

    @property
    def exit_code(self) -> int:
        """What the command would have returned here: 0, 1 or 2."""
        if self.state == "SUCCEEDED":
            return 0
        return 2 if self.driver_code in (2, *_NO_COMMAND) else 1


def job_state(details: Any) -> JobState | None:
    """What Ray's ``JobDetails`` say of a job of ours; None of others."""
    metadata = details.metadata or {}
    if not details.submission_id or not {ID, STAGE} <= set(metadata):
        return None
    attempt = metadata.get(ATTEMPT, "1")
    return JobState(
        name=details.submission_id,
        id=metadata[ID],
        attempt=int(attempt) if attempt.isdigit() else 1,
        stage=metadata[STAGE],
        configuration=configuration_of(details.entrypoint),
        digest=metadata.get(DIGEST, ""),
        state=str(details.status),
        started=_time(details.start_time),
        ended=_time(details.end_time),
        driver_code=details.driver_exit_code,
        message=_message(str(details.status), details.driver_exit_code, details.message or ""),
    )


def job_states(jobs: Iterable[Any]) -> list[JobState]:
    """Those of ours, the latest last."""
    found = [state for details in jobs if (state := job_state(details)) is not None]
    return sorted(found, key=lambda job: job.started or datetime.max.replace(tzinfo=UTC))


def attempts_of(jobs: Iterable[Any], wanted: str) -> list[JobState]:
    """The attempts at a job, by its id, the first one first; or the one attempt of that name."""
    ours = job_states(jobs)
    found = [job for job in ours if job.id == wanted] or [job for job in ours if job.name == wanted]
    return sorted(found, key=lambda job: job.attempt)


def _time(milliseconds: int | None) -> datetime | None:
    # 0 stands for a time that has not come.
    return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds else None


def _message(state: str, code: int | None, text: str) -> str:
    """In one line: of a command that failed, the last line of its log."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if state in ("SUCCEEDED", "RUNNING"):
        # Ray says no more than the state does.
        said = ""
    elif state != "FAILED" or code is None:
        said = lines[0] if lines else ""
    elif code in _NO_COMMAND:
        said = (
            "no `ucn` on the PATH of the cluster's Ray processes; install it on every node, and "
            "run `ray start` with its environment active"
        )
    elif code < 0 or code > 128:
        said = f"the command was killed by signal {code - 128 if code > 0 else -code}"
    else:
        said = f"exit code {code}" + (f": {lines[-1]}" if len(lines) > 1 else "")
    return said[:_LONGEST_MESSAGE]
