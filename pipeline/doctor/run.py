"""Probes side by side, each with its time: one that hangs holds up none of the others."""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ucn.errors import UserError
from ucn.pipeline.doctor.finding import Finding

TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Probe:
    """One look at one thing.

    Attributes:
        name: of the thing, for a probe that ends without a finding.
        look: returns what it finds; raises UserError for what the user must mend.
        hint: what to do where it does not answer in time.
    """

    name: str
    look: Callable[[], list[Finding]]
    hint: str = "try again on a quieter machine"


def run_probes(probes: Sequence[Probe], timeout_s: float = TIMEOUT_S) -> list[Finding]:
    """Run all probes at once.

    Args:
        probes: what to look at.
        timeout_s: how long to wait for all of them; what is not done by then is a problem.

    Returns:
        Their findings, in the order of the probes, without secrets.
    """
    answers: queue.SimpleQueue[tuple[int, list[Finding]]] = queue.SimpleQueue()
    for index, probe in enumerate(probes):
        # Daemons: one that hangs, on a dead network disk for instance, does not hold up the end.
        threading.Thread(
            target=lambda i=index, p=probe: answers.put((i, _look(p))), daemon=True
        ).start()
    found: dict[int, list[Finding]] = {}
    deadline = time.monotonic() + timeout_s
    while len(found) < len(probes):
        try:
            index, findings = answers.get(timeout=max(0, deadline - time.monotonic()))
        except queue.Empty:
            break
        found[index] = findings
    late = f"no answer within {timeout_s:.0f} s"
    return [
        finding.without_secrets()
        for index, probe in enumerate(probes)
        for finding in found.get(index, [Finding(probe.name, "problem", late, probe.hint)])
    ]


def _look(probe: Probe) -> list[Finding]:
    try:
        return probe.look()
    except UserError as error:
        return [Finding(probe.name, "problem", " ".join(str(error).split()))]
    except Exception as error:  # noqa: BLE001 - the other probes tell more
        # Without its text, which may hold anything.
        return [Finding(probe.name, "problem", f"the look at it failed ({type(error).__name__})")]
