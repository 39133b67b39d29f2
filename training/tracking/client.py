"""MLflow's client and its errors."""

import logging
import os
from pathlib import Path
from typing import Any

from ucn.storage.addresses import redact
from ucn.training.config import TrackingConfig

SQLITE = "sqlite:///"


def resolve_tracking(config: TrackingConfig) -> TrackingConfig:
    """Make a relative SQLite path absolute, so that it holds in any working directory."""
    if not config.uri.startswith(SQLITE):
        return config
    path = Path(config.uri.removeprefix(SQLITE)).expanduser().absolute()
    return config.model_copy(update={"uri": f"{SQLITE}{path}"})


def open_client(config: TrackingConfig) -> Any:
    """Make a client with few retries of its own."""
    # MLflow reads these at each request; by default it retries for many minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    from mlflow import MlflowClient

    # Hides messages about the database setup; the caller reports errors.
    for name in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    return MlflowClient(tracking_uri=config.uri)


def is_transient(error: Exception) -> bool:
    """Whether the same call may succeed later: no connection, or the server is busy or failing."""
    from botocore import exceptions as s3
    from mlflow.exceptions import MlflowException
    from requests import RequestException

    if isinstance(error, MlflowException):
        # MLflow gives requests that did not reach the server the status 500.
        status: int = error.get_http_status_code()  # type: ignore[no-untyped-call]
        return _is_transient_status(status)
    if isinstance(error, RequestException) and error.response is not None:
        return _is_transient_status(error.response.status_code)
    broken = RequestException, ConnectionError, TimeoutError, s3.ConnectionError, s3.HTTPClientError
    return isinstance(error, broken)


def _is_transient_status(status: int) -> bool:
    return status in (408, 429) or (status >= 500 and status != 501)


def brief(error: Exception) -> str:
    """The first line of an error, truncated to 200 characters, with its URIs redacted."""
    return redact((str(error).splitlines() or [type(error).__name__])[0])[:200]
