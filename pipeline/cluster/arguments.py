"""What `ucn submit` and `ucn status` take."""

from pathlib import Path
from typing import Annotated

import tyro

from ucn.config import FrozenConfig
from ucn.pipeline.stages import Stage


class ClusterArguments(FrozenConfig):
    """Which cluster."""

    address: Annotated[str | None, tyro.conf.arg(metavar="URL")] = None
    """Dashboard of the cluster, http://HOST:8265; by default RAY_API_SERVER_ADDRESS, the host of
    RAY_ADDRESS, or this machine."""


class SubmitArguments(ClusterArguments):
    """What to run, and how to watch it."""

    stage: tyro.conf.Positional[Stage]
    """The command that runs on the cluster."""
    config: Annotated[
        tyro.conf.UseAppendAction[tuple[Path, ...]], tyro.conf.arg(metavar="FILE")
    ] = ()
    """Configuration of that command, a local YAML file; later ones win. It is checked here and
    travels with the job."""
    id: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Name of the job, by default made of the stage and the configuration. The same name is the
    same job."""
    detach: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print the job's name and return; do not follow its log."""
    again: tyro.conf.FlagCreatePairsOff[bool] = False
    """Start anew a job that has succeeded."""
    working_dir: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Ship this folder to the nodes, such as a checkout; its code comes before what is installed
    there. What .gitignore names stays here."""


class StatusArguments(ClusterArguments):
    """Which jobs."""

    id: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[ID]")] = None
    """One job in detail; without it all that `ucn submit` has started."""
    log: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print the log of the job that ID names."""
    as_json: Annotated[tyro.conf.FlagCreatePairsOff[bool], tyro.conf.arg(name="json")] = False
    """Print JSON."""
