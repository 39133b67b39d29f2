"""MLflow, kept at arm's length: runs are logged in the output folder, and delivered meanwhile."""

from ucn.training.tracking.delivery import Tracker, experiment_page, sync
from ucn.training.tracking.log import TRACKING, DatasetLink, ModelLink, RunLog, last_run
from ucn.training.tracking.mirror import local_folder, open_output, pull
from ucn.training.tracking.system import system_metrics

__all__ = [
    "TRACKING",
    "DatasetLink",
    "ModelLink",
    "RunLog",
    "Tracker",
    "experiment_page",
    "last_run",
    "local_folder",
    "open_output",
    "pull",
    "sync",
    "system_metrics",
]
