"""Ray's job client with bounds: each request ends, and what fails is told in one line."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import ray
import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient

from ucn.errors import UserError
from ucn.pipeline.cluster.token import MODE, find_token, token_header

# Seconds to connect, and between two bytes of an answer; a dashboard that has just started keeps
# a submission waiting for its job agent.
_TIMEOUTS_S = (5.0, 60.0)
_TALKATIVE = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env",
)
_API_SERVER = "RAY_API_SERVER_ADDRESS"


class JobsError(Exception):
    """The dashboard refuses a request.

    Args:
        status: of the answer, HTTP.
        text: of the answer.
    """

    def __init__(self, status: int, text: str) -> None:
        # The last line of what may be a traceback.
        lines = text.strip(" .\n").splitlines()
        super().__init__(f"{status}: {lines[-1][:200] if lines else 'no reason given'}")
        self.status = status


class UnavailableError(JobsError):
    """The same request may succeed later."""


BROKEN = (
    UnavailableError,
    requests.RequestException,
    aiohttp.ClientError,
    # Not BrokenPipeError: that is whoever reads our own output.
    ConnectionResetError,
    ConnectionRefusedError,
    TimeoutError,
    # Ray's, where the stream of a log breaks off.
    RuntimeError,
)
"""What a request or a stream raises when the connection fails, or the dashboard for the moment."""


class JobsClient(JobSubmissionClient):
    """Ray's client of its Jobs API, whose requests end after a while.

    Args:
        address: of the dashboard, ``http://HOST:PORT``; the environment does not replace it.

    Raises:
        UserError: nothing answers there, it wants another token, or it is another version of Ray.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        # They tell of each upload and each end of a stream.
        for name in _TALKATIVE:
            logging.getLogger(name).setLevel(logging.WARNING)
        with as_user_error(address), _only_address(address):
            try:
                super().__init__(address, headers=token_header(os.environ, Path.home()))
            except (ValueError, KeyError, TypeError, RuntimeError):
                raise UserError(
                    f"{address}: something answers, but no Ray dashboard; give its address, "
                    "http://HOST:8265"
                ) from None
        theirs = str(self._server_ray_version)
        if theirs != ray.__version__:
            raise UserError(
                f"{address}: the cluster has Ray {theirs}, this is {ray.__version__}; use the "
                f"environment of the cluster's image here, or install ray=={theirs}"
            )

    def nodes(self) -> list[dict[str, Any]]:
        """The states of the nodes: ``state``, ``node_ip``, ``resources_total``.

        Raises:
            JobsError: the dashboard does not tell them.
        """
        try:
            answer = self._do_request("GET", "/api/v0/nodes")
            if answer.status_code != 200:
                self._raise_error(answer)
            found: list[dict[str, Any]] = answer.json()["data"]["result"]["result"]
        except (requests.RequestException, ValueError, KeyError, TypeError) as error:
            raise UnavailableError(0, type(error).__name__) from None
        return found

    def _do_request(self, method: str, endpoint: str, **options: Any) -> Any:
        return super()._do_request(method, endpoint, timeout=_TIMEOUTS_S, **options)

    def _raise_error(self, r: requests.Response) -> None:
        passes = r.status_code in (408, 429) or r.status_code >= 500
        raise (UnavailableError if passes else JobsError)(r.status_code, r.text)


@contextmanager
def as_user_error(address: str) -> Iterator[None]:
    """Turn what goes wrong on the way to a dashboard into one line."""
    try:
        yield
    except AuthenticationError:
        raise UserError(_token_advice(address)) from None
    except (requests.Timeout, requests.ConnectionError, ConnectionError) as error:
        why = "no answer in time" if isinstance(error, requests.Timeout) else "cannot be reached"
        raise UserError(
            f"{address}: {why}; give the dashboard of a running cluster, http://HOST:8265, which "
            "is forwarded from the head by `ssh -L 8265:127.0.0.1:8265 HEAD` or `kubectl "
            "port-forward`"
        ) from None
    except (requests.RequestException, UnavailableError) as error:
        why = str(error) if isinstance(error, UnavailableError) else type(error).__name__
        raise UserError(
            f"{address}: the dashboard does not serve the request ({why}); is the cluster still "
            "starting? try again"
        ) from None
    except JobsError as error:
        raise UserError(f"{address}: the dashboard refuses ({error})") from None


@contextmanager
def _only_address(address: str) -> Iterator[None]:
    """Ray lets the environment replace the address that its client is given."""
    before = os.environ.get(_API_SERVER)
    os.environ[_API_SERVER] = address
    try:
        yield
    finally:
        if before is None:
            del os.environ[_API_SERVER]
        else:
            os.environ[_API_SERVER] = before


def _token_advice(address: str) -> str:
    place = find_token(os.environ, Path.home())
    if not place.present:
        return (
            f"{address}: wants a token, and there is none in {place.name}; put there what "
            "`ray get-auth-token` prints on the cluster's head node"
        )
    if os.environ.get(MODE, "").lower() != "token":
        return f"{address}: wants a token; set {MODE}=token to send the one of {place.name}"
    return (
        f"{address}: refuses the token of {place.name}; put there what `ray get-auth-token` prints "
        "on the cluster's head node"
    )
