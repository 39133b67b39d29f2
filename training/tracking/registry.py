"""Logs the trained model as an artifact, and registers it as a version of a model."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ucn.storage.addresses import redact
from ucn.training.config import TrackingConfig
from ucn.training.tracking.client import brief, open_client
from ucn.training.tracking.delivery import retry_request

logger = logging.getLogger(__name__)

ARTIFACT = "model"
"""Folder of the model among a run's artifacts."""


def register_model(
    config: TrackingConfig, run_id: str | None, folder: Path, scores: Mapping[str, float]
) -> str | None:
    """Log a model folder as an artifact of its run, and register it as a version of a model.

    A run makes one version, however often this is called. ``models:/NAME/VERSION`` and
    ``runs:/RUN/model`` can be downloaded and given to `ucn.training.model.load_model`. There is no
    MLflow flavour: loading one would run code that came with the model.

    Args:
        config: with ``model_name`` None the artifact is logged, and no version is registered.
        run_id: from `start_run`.
        folder: the model folder.
        scores: logged as tags of the version, in addition to the digests of the shards.

    Returns:
        the version; None without a run or a name. If MLflow refuses, or does not answer for
        `delivery.PATIENCE_S`, a warning is logged and None is returned.
    """
    if run_id is None or not config.enabled:
        return None
    uri = redact(config.uri)

    def register() -> str | None:
        client = open_client(config)
        client.log_artifacts(run_id, str(folder), ARTIFACT)
        return config.model_name and _version(client, config.model_name, run_id, scores)

    try:
        return retry_request(uri, register)
    except Exception as error:  # noqa: BLE001 - no error of tracking stops a run
        logger.warning(
            "%s: the model is not registered (%s); it is in %s", uri, brief(error), folder
        )
        return None


def _version(client: Any, name: str, run_id: str, scores: Mapping[str, float]) -> str:
    """Return the version that this run has registered, or register one."""
    found = client.search_model_versions(f"run_id = '{run_id}'")
    versions = [str(version.version) for version in found if version.name == name]
    if versions:
        return versions[0]
    _create_registered_model(client, name)
    run = client.get_run(run_id)
    digests = {k: v for k, v in run.data.tags.items() if k.startswith("manifest_sha256.")}
    version = client.create_model_version(
        name,
        f"{run.info.artifact_uri}/{ARTIFACT}",
        run_id,
        tags={key: f"{value:.6g}" for key, value in scores.items()} | digests,
        # A database has made it when it answers.
        await_creation_for=0,
    )
    return str(version.version)


def _create_registered_model(client: Any, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
