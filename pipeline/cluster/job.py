"""What is submitted: a stage, its configuration and an id that follows from both."""

import hashlib
import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from ucn.config import FrozenConfig
from ucn.errors import UserError
from ucn.pipeline.places import SQLITE, places_of, strings_of, tracking_of
from ucn.pipeline.stages import Stage, check_stage, stage_command, to_yaml
from ucn.storage.addresses import holds_secret, redact

ID, STAGE, ATTEMPT, DIGEST = "ucn_id", "ucn_stage", "ucn_attempt", "ucn_configuration"
"""Names in the metadata of a job."""

_DELIMITER = "END_OF_CONFIGURATION"
# Ray makes a file name and a part of an address of it.
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True)
class Job:
    """One stage to run on a cluster.

    Attributes:
        id: the same for the same stage and configuration, unless the user chose one.
        stage: the command that runs.
        digest: SHA-256 of stage and configuration, hex.
        entrypoint: what the cluster's shell runs.
    """

    id: str
    stage: Stage
    digest: str
    entrypoint: str

    def name(self, attempt: int) -> str:
        """Ray's submission id of an attempt: Ray takes an id only once."""
        return self.id if attempt == 1 else f"{self.id}-{attempt}"

    def metadata(self, attempt: int) -> dict[str, str]:
        """What tells this job among others."""
        return {ID: self.id, STAGE: self.stage, ATTEMPT: str(attempt), DIGEST: self.digest}


def plan_job(stage: Stage, values: Mapping[str, Any], chosen_id: str | None = None) -> Job:
    """Check a configuration, and make a job of it.

    Args:
        stage: which command the job runs.
        values: its configuration, merged.
        chosen_id: id that the user wants.

    Raises:
        UserError: the configuration is not valid, or would not hold on another machine.
    """
    _refuse_secrets(values)
    _refuse_relative(check_stage(stage, values))
    text = to_yaml(values)
    digest = _digest(stage, values)
    if chosen_id is not None and not _ID.fullmatch(chosen_id):
        raise UserError(f"--id {chosen_id!r}: use up to 100 letters, digits, '.', '-' and '_'")
    command = shlex.join(stage_command(stage, values))
    # The log keeps a progress bar's every state as a line.
    entrypoint = f"exec env TQDM_MININTERVAL=10 {command} <<'{_DELIMITER}'\n{text}\n{_DELIMITER}\n"
    return Job(chosen_id or f"ucn-{stage}-{digest[:12]}", stage, digest, entrypoint)


def _digest(stage: Stage, values: Mapping[str, Any]) -> str:
    """The same for options in another order, except splits: the first is what is evaluated on."""
    splits = values.get("shards")
    order = list(splits) if isinstance(splits, Mapping) else []
    text = json.dumps([stage, order, values], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def configuration_of(entrypoint: str) -> str:
    """The configuration that an entrypoint of ours carries, YAML."""
    return entrypoint.partition(f"'{_DELIMITER}'\n")[2].partition(f"\n{_DELIMITER}")[0]


def _refuse_secrets(values: Mapping[str, Any]) -> None:
    for option, text in strings_of(values):
        if holds_secret(text):
            raise UserError(
                f"{option}: {redact(text)} comes with credentials, which the job's log would show; "
                "set them in the nodes' environment (AWS_..., MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD)"
            )


def _refuse_relative(config: FrozenConfig) -> None:
    for place in places_of(config):
        if "://" not in place.uri and not PurePosixPath(place.uri).is_absolute():
            raise UserError(
                f"{place.option}: {place.uri} is a relative path, which means nothing on a "
                f"cluster; set {place.option} to an absolute path that all nodes share, or, for "
                "shards, to s3://BUCKET/FOLDER"
            )
    tracking = tracking_of(config)
    uri = tracking.uri if tracking else ""
    if uri.startswith(SQLITE) and not uri.startswith(f"{SQLITE}/"):
        raise UserError(
            f"tracking.uri: {uri} is a file in the job's folder, which is lost with it; set "
            "tracking.uri=http://SERVER:5000, or tracking.enabled=false"
        )
