"""State of the jobs that `ucn submit` has started, as a table, in detail, and as JSON."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from ucn.pipeline.cluster.job import ATTEMPT, DIGEST, ID, STAGE, configuration_of

_HEADER = ("JOB", "STAGE", "STATE", "SUBMITTED (UTC)", "TOOK", "MESSAGE")
_MESSAGE_LENGTH = 300
# Exit codes of a shell for a command that does not exist or is not executable.
_NO_COMMAND = (126, 127)


@dataclass(frozen=True)
class JobState:
    """State of one attempt at a job.

    Attributes:
        name: Ray's submission ID.
        state: PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED.
        exit_code: of `ucn submit`, 0, 1 or 2; None while the job runs.
        message: why it ended, one line.
        digest: SHA-256 of stage and configuration, hex.
    """

    name: str
    id: str
    attempt: int
    stage: str
    state: str
    submitted: datetime | None
    ended: datetime | None
    exit_code: int | None
    message: str
    configuration: str
    digest: str

    @property
    def outcome(self) -> str:
        """State, age and message of a job that has ended."""
        text = self.state + (f" {duration(self.ended)} ago" if self.ended else "")
        return f"{text}: {self.message}" if self.message else text

    def took(self, now: datetime | None = None) -> str:
        """Time from submission to the end, or to now."""
        return duration(self.submitted, self.ended or now) if self.submitted else ""


def job_state(details: Mapping[str, Any]) -> JobState | None:
    """Reads Ray's `JobDetails`; None for a job that `ucn submit` did not start."""
    name, metadata = details.get("submission_id"), details.get("metadata") or {}
    if not name or not {ID, STAGE} <= set(metadata):
        return None
    attempt, state = metadata.get(ATTEMPT, "1"), str(details["status"])
    code = details.get("driver_exit_code")
    exit_code = None
    if state in ("SUCCEEDED", "FAILED", "STOPPED"):
        exit_code = 0 if state == "SUCCEEDED" else 2 if code in (2, *_NO_COMMAND) else 1
    return JobState(
        name=name,
        id=metadata[ID],
        attempt=int(attempt) if attempt.isdigit() else 1,
        stage=metadata[STAGE],
        state=state,
        submitted=_time(details.get("start_time")),
        ended=_time(details.get("end_time")),
        exit_code=exit_code,
        message=_message(state, code, details.get("message") or "")[:_MESSAGE_LENGTH],
        configuration=configuration_of(details.get("entrypoint") or ""),
        digest=metadata.get(DIGEST, ""),
    )


def job_states(jobs: Iterable[Mapping[str, Any]]) -> list[JobState]:
    """The jobs of `ucn submit` among all jobs, the latest last."""
    found = [state for details in jobs if (state := job_state(details)) is not None]
    return sorted(found, key=lambda job: job.submitted or datetime.max.replace(tzinfo=UTC))


def attempts_of(jobs: Iterable[Mapping[str, Any]], wanted: str) -> list[JobState]:
    """All attempts at the job with an ID, the latest last; or the one attempt with a name."""
    ours = job_states(jobs)
    found = [job for job in ours if job.id == wanted] or [job for job in ours if job.name == wanted]
    return sorted(found, key=lambda job: job.attempt)


def as_table(jobs: Sequence[JobState], now: datetime | None = None) -> str:
    """One line a job."""
    rows = [_HEADER]
    for job in jobs:
        submitted = job.submitted.strftime("%Y-%m-%d %H:%M:%S") if job.submitted else ""
        rows.append((job.name, job.stage, job.state, submitted, job.took(now), job.message))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def as_detail(attempts: Sequence[JobState], now: datetime | None = None) -> str:
    """The latest attempt in detail, and how the earlier ones ended."""
    facts = as_json(attempts[-1]) | {"took": attempts[-1].took(now)}
    facts |= {f"attempt {job.attempt}": job.outcome for job in attempts[:-1]}
    width = max(map(len, facts))
    return "\n".join(
        f"{name.replace('_', ' '):{width}}  {value}"
        for name, value in facts.items()
        if value not in ("", None)
    )


def as_json(job: JobState) -> dict[str, Any]:
    """One attempt as JSON values; times in ISO 8601, UTC."""
    return {
        name: value.isoformat(timespec="seconds") if isinstance(value, datetime) else value
        for name, value in asdict(job).items()
    }


def duration(start: datetime, end: datetime | None = None) -> str:
    """Time from start to end, or to now, in its largest whole unit, such as ``12 min``."""
    seconds = max(0, int(((end or datetime.now(UTC)) - start).total_seconds()))
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def _time(milliseconds: int | None) -> datetime | None:
    # Ray writes 0 for a time that is not known yet.
    return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds else None


def _message(state: str, code: int | None, text: str) -> str:
    """Why a job ended, in one line; for a command that failed, with the last line of its log."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if state in ("SUCCEEDED", "RUNNING"):
        return ""
    if state != "FAILED" or code is None:
        return lines[0] if lines else ""
    if code in _NO_COMMAND:
        return (
            "no `ucn` on the PATH of Ray on the cluster; install it on every node, and run `ray "
            "start` with its environment active"
        )
    if code < 0 or code > 128:
        return f"the command was killed by signal {code - 128 if code > 0 else -code}"
    return f"exit code {code}" + (f": {lines[-1]}" if len(lines) > 1 else "")
