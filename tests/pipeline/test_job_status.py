"""Lists of jobs: those of `ucn submit`, their states, and why they ended."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ucn.pipeline.cluster.job import plan_job
from ucn.pipeline.cluster.status import (
    as_detail,
    as_json,
    as_table,
    attempts_of,
    duration,
    job_state,
    job_states,
)

PLANNED = plan_job("preprocess", {"source": "motorcycle", "out": "/shards"})
START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def details(name: str, **changes: Any) -> dict[str, Any]:
    """The fields of Ray's JobDetails that are read."""
    id_, _, attempt = name.partition("-")
    values: dict[str, Any] = {
        "submission_id": name,
        "metadata": {
            "ucn_id": id_,
            "ucn_stage": "train",
            "ucn_attempt": attempt or "1",
            "ucn_configuration": "abc",
        },
        "status": "RUNNING",
        "message": "Job is currently running.",
        "entrypoint": PLANNED.entrypoint,
        "start_time": int(START.timestamp() * 1000),
        "end_time": None,
        "driver_exit_code": None,
    }
    return values | changes


FAILED = {
    "status": "FAILED",
    "driver_exit_code": 2,
    "message": "Job entrypoint command failed with exit code 2, last logs:\nx\nucn: a: no b\n\n",
    "end_time": int((START + timedelta(minutes=5)).timestamp() * 1000),
}


def test_only_our_jobs_are_listed_in_the_order_of_their_start() -> None:
    jobs = [
        details("late", start_time=int(START.timestamp() * 1000) + 5),
        details("early"),
        details("other", metadata={"job_name": "x"}),
        details("plain", metadata=None),
        details("driver", submission_id=None),
    ]
    assert [job.name for job in job_states(jobs)] == ["early", "late"]


def test_attempts_of_a_job_are_found_by_its_id_or_by_their_name() -> None:
    jobs = [details("a-10"), details("a"), details("b"), details("a-2")]
    assert [job.name for job in attempts_of(jobs, "a")] == ["a", "a-2", "a-10"]
    assert [job.name for job in attempts_of(jobs, "a-2")] == ["a-2"]
    assert attempts_of(jobs, "c") == []


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        ({"status": "SUCCEEDED", "driver_exit_code": 0, "message": "fine"}, 0, ""),
        (FAILED, 2, "exit code 2: ucn: a: no b"),
        (FAILED | {"driver_exit_code": 1}, 1, "exit code 1: ucn: a: no b"),
        (FAILED | {"driver_exit_code": 127}, 2, "no `ucn` on the PATH"),
        (FAILED | {"driver_exit_code": -9}, 1, "killed by signal 9"),
        (FAILED | {"driver_exit_code": 137}, 1, "killed by signal 9"),
        ({"status": "FAILED", "message": "Job supervisor actor died: x\ny"}, 1, "actor died"),
        ({"status": "STOPPED", "message": "Job was intentionally stopped."}, 1, "stopped"),
    ],
)
def test_how_a_job_ended(changes: dict[str, Any], code: int, message: str) -> None:
    job = job_state(details("a", **changes))
    assert job is not None
    assert job.exit_code == code
    assert message in job.message
    assert "\n" not in job.message


def test_a_list_a_detail_and_json_say_the_same() -> None:
    jobs = job_states([details("a", **FAILED), details("a-2")])
    now = START + timedelta(hours=3)
    header, first, second = as_table(jobs, now).splitlines()
    assert header.split("  ")[0] == "JOB"
    assert first.split() == [
        *("a", "train", "FAILED", "2026-01-02", "03:04:05", "5", "min"),
        *("exit", "code", "2:", "ucn:", "a:", "no", "b"),
    ]
    assert second.split() == ["a-2", "train", "RUNNING", "2026-01-02", "03:04:05", "3", "h"]

    text = as_detail(jobs, now)
    assert "RUNNING" in text
    facts = dict(line.split("  ", 1) for line in text.splitlines())
    assert facts["attempt 1"].endswith("exit code 2: ucn: a: no b")
    assert facts["configuration"] == "{source: motorcycle, out: /shards}"
    assert "ended" not in facts
    assert "exit code      2" in as_detail(jobs[:1], now)

    values = json.loads(json.dumps([as_json(job) for job in jobs]))
    assert values[0]["ended"] == "2026-01-02T03:09:05+00:00"
    assert [value["exit_code"] for value in values] == [2, None]


def test_durations() -> None:
    for seconds, said in (
        (-5, "0 s"),
        (119, "119 s"),
        (120, "2 min"),
        (7200, "2 h"),
        (2e5, "2 days"),
    ):
        assert duration(START, START + timedelta(seconds=seconds)) == said
