"""A stage with its configuration as a Ray job: the ID, the entrypoint, and what is refused."""

import hashlib
import json
import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from ucn.config import FrozenConfig
from ucn.errors import UserError
from ucn.pipeline.arguments import merge
from ucn.pipeline.locations import locations_of, tracking_of
from ucn.pipeline.stages import Stage, check_stage, stage_command, to_yaml
from ucn.storage.addresses import SQLITE, holds_secret, redact

# Keys of a job's metadata.
ID, STAGE, ATTEMPT, DIGEST = "ucn_id", "ucn_stage", "ucn_attempt", "ucn_configuration"

_DELIMITER = "END_OF_CONFIGURATION"
# Ray uses it as a file name and in URLs.
_VALID_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True)
class Job:
    """A stage to run on a cluster.

    Attributes:
        id: chosen by the user, or derived from stage and configuration.
        digest: SHA-256 of stage and configuration, hex.
        entrypoint: shell command.
    """

    id: str
    stage: Stage
    digest: str
    entrypoint: str

    def name(self, attempt: int) -> str:
        """Ray's submission ID of an attempt. Ray accepts each ID once."""
        return self.id if attempt == 1 else f"{self.id}-{attempt}"

    def metadata(self, attempt: int) -> dict[str, str]:
        """Metadata by which `ucn` recognises its jobs."""
        return {ID: self.id, STAGE: self.stage, ATTEMPT: str(attempt), DIGEST: self.digest}


def plan_job(stage: Stage, values: Mapping[str, Any], chosen_id: str | None = None) -> Job:
    """Checks a configuration and makes a job of it.

    Raises:
        UserError: the configuration is invalid or holds credentials or relative paths, or the ID
            that the user has chosen is invalid.
    """
    variables = {"uri": "MLFLOW_TRACKING_URI", "experiment": "MLFLOW_EXPERIMENT_NAME"}
    here = {name: os.environ[one] for name, one in variables.items() if os.environ.get(one)}
    if here and stage != "preprocess":
        # The nodes may have other variables than this machine.
        values = merge({"tracking": here}, values)
    _refuse_secrets(values)
    _refuse_relative_paths(check_stage(stage, values))
    if chosen_id is not None and not _VALID_ID.fullmatch(chosen_id):
        raise UserError(f"--id {chosen_id!r}: use up to 100 letters, digits, '.', '-' and '_'")
    # The order of the splits has a meaning: evaluation uses the first one.
    splits = values.get("shards")
    order = list(splits) if isinstance(splits, Mapping) else []
    key = json.dumps([stage, order, values], sort_keys=True, default=str)
    digest = hashlib.sha256(key.encode()).hexdigest()
    # A job's log keeps each update of a progress bar as a line, hence few updates.
    entrypoint = (
        f"exec env TQDM_MININTERVAL=10 {shlex.join(stage_command(stage, values))} "
        f"<<'{_DELIMITER}'\n{to_yaml(values)}\n{_DELIMITER}\n"
    )
    return Job(chosen_id or f"ucn-{stage}-{digest[:12]}", stage, digest, entrypoint)


def configuration_of(entrypoint: str) -> str:
    """The configuration (YAML) inside an entrypoint of :func:`plan_job`."""
    return entrypoint.partition(f"'{_DELIMITER}'\n")[2].partition(f"\n{_DELIMITER}")[0]


def _refuse_secrets(values: Any, option: str = "") -> None:
    if isinstance(values, Mapping):
        for name, value in values.items():
            _refuse_secrets(value, f"{option}.{name}" if option else str(name))
    elif isinstance(values, list | tuple):
        for value in values:
            _refuse_secrets(value, option)
    elif isinstance(values, str) and holds_secret(values):
        raise UserError(
            f"{option}: {redact(values)} contains credentials, which the job's log would show; set "
            "them in the environment of the nodes (AWS_..., MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD)"
        )


def _refuse_relative_paths(config: FrozenConfig) -> None:
    for location in locations_of(config):
        if "://" not in location.uri and not PurePosixPath(location.uri).is_absolute():
            raise UserError(
                f"{location.option}: {location.uri} is a relative path; set {location.option} to "
                "an absolute path that all nodes share, or shards to s3://BUCKET/FOLDER"
            )
    tracking = tracking_of(config)
    uri = tracking.uri if tracking else ""
    if uri.startswith(SQLITE) and not uri.startswith(f"{SQLITE}/"):
        raise UserError(
            f"tracking.uri: {uri} is a file in the job's working directory, which Ray deletes; set "
            "tracking.uri=http://SERVER:5000, or tracking.enabled=false"
        )
