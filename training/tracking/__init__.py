"""MLflow, kept at arm's length: slow or broken tracking never holds up the work."""

from ucn.training.tracking.client import resolve_tracking
from ucn.training.tracking.registry import register_model
from ucn.training.tracking.run import DatasetLink, RunLogger, flatten, start_run
from ucn.training.tracking.system import system_metrics

__all__ = [
    "DatasetLink",
    "RunLogger",
    "flatten",
    "register_model",
    "resolve_tracking",
    "start_run",
    "system_metrics",
]
