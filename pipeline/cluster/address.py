"""Where the dashboard of a Ray cluster answers: it is what takes jobs."""

from collections.abc import Mapping
from urllib.parse import urlsplit

from ucn.errors import UserError
from ucn.storage.addresses import redact

DASHBOARD_PORT = 8265
"""Ray's default."""


def dashboard_address(given: str | None, environment: Mapping[str, str]) -> str:
    """The dashboard's address, ``http://HOST:PORT``.

    Args:
        given: by the user: ``http://HOST:PORT``, ``HOST:PORT`` or ``HOST``; None takes
            ``RAY_API_SERVER_ADDRESS``, else the host of ``RAY_ADDRESS``, else this machine.
        environment: the process's.

    Raises:
        UserError: it is no address.
    """
    if given := given or environment.get("RAY_API_SERVER_ADDRESS"):
        return _normalised(given)
    joined = environment.get("RAY_ADDRESS", "")
    if joined.startswith(("http://", "https://")):
        return _normalised(joined)
    # RAY_ADDRESS names the port that drivers join by; the dashboard has another.
    host = _split(joined.removeprefix("ray://"))[0] if joined not in ("", "auto", "local") else None
    return _normalised(host or "127.0.0.1")


def _normalised(address: str) -> str:
    scheme, separator, rest = address.partition("://")
    if not separator:
        scheme, rest = "http", address
    if scheme not in ("http", "https"):
        raise UserError(f"{redact(address)}: jobs go to the dashboard; give http://HOST:8265")
    if "@" in rest:
        raise UserError(
            f"{redact(address)}: an address with a user or password; Ray takes a token, see "
            "`ray get-auth-token`"
        )
    host, port = _split(rest.rstrip("/"))
    default = None if scheme == "https" else DASHBOARD_PORT
    port = port or default
    name = f"[{host}]" if ":" in host else host
    path = urlsplit(f"//{rest}").path.rstrip("/")
    return f"{scheme}://{name}{f':{port}' if port else ''}{path}"


def _split(place: str) -> tuple[str, int | None]:
    try:
        parts = urlsplit(f"//{place}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or any(letter.isspace() for letter in place):
        raise UserError(f"{redact(place)}: is no address; give http://HOST:8265")
    return host, port
