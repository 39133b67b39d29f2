"""URIs: without secrets for messages, logs and records; those of SQLite files; connections."""

import re
import socket
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

# User and password before the host, up to the last @; options or a fragment at the end.
_USER = re.compile(r"([A-Za-z][\w+.-]*://)[^/\s]*@")
_SECRET_OPTION = re.compile(r"[?&][^=&]*(pass|pwd|token|secret|key|sign|credential)[^=&]*=", re.I)
_OPTIONS = re.compile(r"([A-Za-z][\w+.-]*://[^\s?#]*)[?#][^\s'\"<>)]*")

CONNECT_S = 5.0
"""Time limit of a connection, seconds."""
DEFAULT_PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}
"""TCP ports of schemes."""


def redact(text: str) -> str:
    """Remove user, password, options and fragment from the URIs in a text."""
    return _OPTIONS.sub(r"\1", _USER.sub(r"\1", text))


def holds_secret(text: str) -> bool:
    """Whether a URI has a user, a password, or an option that looks like a secret."""
    return "://" in text and bool(_USER.match(text) or _SECRET_OPTION.search(text))


SQLITE = "sqlite:///"


def sqlite_uri(path: Path) -> str:
    """Tracking URI of an SQLite file, absolute; MLflow decodes it."""
    text = str(path.expanduser().absolute())
    return SQLITE + re.sub("[%?#]", lambda special: quote(special[0]), text)


def sqlite_path(uri: str) -> Path | None:
    """File of an SQLite tracking URI; None for other URIs."""
    path = unquote(uri.removeprefix(SQLITE).partition("?")[0])
    return Path(path) if uri.startswith(SQLITE) else None


def connect(address: str) -> socket.socket:
    """Opens a TCP connection to ``[SCHEME://]HOST[:PORT]``.

    Raises:
        ValueError: the address has no host or no port.
        OSError: the connection fails, or is not accepted within `CONNECT_S`.
    """
    parts = urlsplit(address if "://" in address else f"//{address}")
    port = parts.port or DEFAULT_PORTS.get(parts.scheme.partition("+")[0])
    if not parts.hostname or not port:
        raise ValueError("not HOST:PORT")
    return socket.create_connection((parts.hostname, port), CONNECT_S)


def connection_error(address: str) -> str | None:
    """Why :func:`connect` fails for an address; None if the connection is accepted."""
    try:
        connect(address).close()
    except ValueError:
        return "not HOST:PORT"
    except OSError as error:
        return error.strerror or type(error).__name__
    return None
