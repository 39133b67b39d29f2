"""Client of Ray's Jobs API: the dashboard's address, Ray's token, and requests with timeouts.

Endpoints: https://docs.ray.io/en/latest/cluster/running-applications/job-submission/rest.html
Token: https://docs.ray.io/en/latest/ray-security/token-auth.html
"""

import os
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from ucn.errors import UserError
from ucn.storage.addresses import redact

API_SERVER, RAY_ADDRESS = "RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"
AUTH_MODE, TOKEN, TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
COPY_TOKEN = "put there what `ray get-auth-token` prints on the cluster's head node"

# Seconds to connect, and between two parts of an answer. A dashboard that has just started holds a
# submission until its job agent is ready.
_TIMEOUTS_S = (5.0, 60.0)
_OTHER_SERVER = "not a Ray dashboard; give the dashboard's address, http://HOST:8265"


class JobsError(UserError):
    """The dashboard refuses a request; ``status`` is the HTTP status, or 0 without an answer."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class UnavailableError(JobsError):
    """The dashboard does not answer, or cannot serve the request now: a retry can succeed."""


def find_token(environment: Mapping[str, str], home: Path) -> tuple[str, str]:
    """Ray's token: the environment variable or file where Ray looks for it, and its value.

    The value is empty if there is none. Ray takes RAY_AUTH_TOKEN, else the file that
    RAY_AUTH_TOKEN_PATH names, else ~/.ray/auth_token.
    """
    if value := environment.get(TOKEN, "").strip():
        return TOKEN, value
    path = Path(environment.get(TOKEN_PATH) or home / ".ray" / "auth_token")
    try:
        return str(path), path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return str(path), ""


def dashboard_address(given: str | None, environment: Mapping[str, str]) -> str:
    """The dashboard's address, ``http://HOST:PORT``.

    Args:
        given: ``http://HOST:PORT``, ``HOST:PORT`` or ``HOST``; None takes RAY_API_SERVER_ADDRESS,
            else the host of RAY_ADDRESS, else 127.0.0.1.
        environment: of this process.

    Raises:
        UserError: this is not an address.
    """
    address = given or environment.get(API_SERVER) or ""
    if not address:
        address = environment.get(RAY_ADDRESS, "").removeprefix("ray://")
        if address in ("", "auto", "local"):
            address = "127.0.0.1"
        elif not address.startswith(("http://", "https://")):
            # RAY_ADDRESS has the port of the GCS, and the dashboard another one.
            address = address.rpartition(":")[0] or address
    try:
        parts = urlsplit(address if "://" in address else f"http://{address}")
        is_valid = parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc
        port = ":8265" if parts.port is None and parts.scheme == "http" else ""
    except ValueError:
        is_valid = False
    if not is_valid or any(letter.isspace() for letter in address):
        raise UserError(
            f"{redact(address.rpartition('@')[2])}: not a dashboard's address; give "
            "http://HOST:8265, without user and password (Ray uses a token: `ray get-auth-token`)"
        )
    return f"{parts.scheme}://{parts.netloc}{port}{parts.path.rstrip('/')}"


class JobsClient:
    """Client of the Jobs API; each request ends after a bounded time.

    Args:
        address: of the dashboard, ``http://HOST:PORT``.

    Raises:
        UserError: the dashboard does not answer, refuses the token, or has another version of Ray.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        try:
            theirs = self._request("GET", "/api/version")["ray_version"]
        except UnavailableError:
            raise
        except (JobsError, KeyError, TypeError):
            raise UserError(f"{address}: {_OTHER_SERVER}") from None
        if theirs != (ours := version("ray")):
            raise UserError(
                f"{address}: the cluster has Ray {theirs}, this machine has {ours}; use the "
                f"environment of the cluster's image here, or install ray=={theirs}"
            )

    def jobs(self) -> list[dict[str, Any]]:
        """Ray's `JobDetails` of all jobs."""
        found: list[dict[str, Any]] = self._request("GET", "/api/jobs/")
        return found

    def job(self, name: str) -> dict[str, Any] | None:
        """Ray's `JobDetails` of one job, by its submission ID; None if there is no such job."""
        try:
            found: dict[str, Any] = self._request("GET", f"/api/jobs/{name}")
        except JobsError as error:
            if error.status != 404:
                raise
            return None
        return found

    def log(self, name: str) -> str:
        """The whole log of a job so far."""
        return str(self._request("GET", f"/api/jobs/{name}/logs")["logs"])

    def submit(self, request: Mapping[str, Any], working_dir: Path | None = None) -> None:
        """Submits a job.

        Args:
            request: ``entrypoint``, ``submission_id``, ``metadata``, ``runtime_env``.
            working_dir: local folder that is copied to the nodes.

        Raises:
            UserError: the dashboard refuses, or the folder cannot be copied.
        """
        if working_dir is None:
            self._request("POST", "/api/jobs/", json=request)
            return
        # The REST API has no upload of folders. Ray's client prefers the environment's address.
        from ray.exceptions import RayError
        from ray.job_submission import JobSubmissionClient

        runtime_env = {**request["runtime_env"], "working_dir": str(working_dir.absolute())}
        before = os.environ.get(API_SERVER)
        os.environ[API_SERVER] = self.address
        try:
            client = JobSubmissionClient(self.address, headers=_headers())
            client.submit_job(**{**request, "runtime_env": runtime_env})
        except (requests.RequestException, ConnectionError, RuntimeError, RayError) as error:
            raise UnavailableError(f"{self.address}: {_last_line(str(error))}; try again") from None
        except (ValueError, OSError) as error:
            raise UserError(f"--working-dir: {' '.join(str(error).split())}") from None
        finally:
            del os.environ[API_SERVER]
            if before is not None:
                os.environ[API_SERVER] = before

    def _request(self, method: str, path: str, **options: Any) -> Any:
        url = f"{self.address}{path}"
        try:
            answer = requests.request(
                method, url, headers=_headers(), timeout=_TIMEOUTS_S, **options
            )
            if answer.ok:
                return answer.json()
        except requests.JSONDecodeError:
            raise UnavailableError(f"{self.address}: {_OTHER_SERVER}") from None
        except requests.RequestException as error:
            reason = "no answer in time" if isinstance(error, requests.Timeout) else "no connection"
            raise UnavailableError(
                f"{self.address}: {reason}; start the cluster, or forward its dashboard: `ssh -L "
                "8265:127.0.0.1:8265 HEAD` or `kubectl port-forward`"
            ) from None
        status = answer.status_code
        if status in (401, 403):
            raise UserError(f"{self.address}: {_token_advice()}")
        reason = f"{self.address}: the dashboard answers {status} ({_last_line(answer.text)})"
        if status in (408, 429) or status >= 500:
            raise UnavailableError(f"{reason}; try again once the cluster has started", status)
        raise JobsError(reason, status)


def _headers() -> dict[str, str]:
    if os.environ.get(AUTH_MODE, "token").lower() != "token":
        return {}
    _, token = find_token(os.environ, Path.home())
    return {"Authorization": f"Bearer {token}"} if token else {}


def _token_advice() -> str:
    source, token = find_token(os.environ, Path.home())
    if not token:
        return f"needs a token, and there is none in {source}; {COPY_TOKEN}"
    if not _headers():
        return f"needs a token; set {AUTH_MODE}=token to send that of {source}"
    return f"refuses the token of {source}; {COPY_TOKEN}"


def _last_line(text: str) -> str:
    """The last line of a text, such as the error of a traceback."""
    lines = text.strip(" .\n").splitlines()
    return lines[-1][:200] if lines else "no reason given"
