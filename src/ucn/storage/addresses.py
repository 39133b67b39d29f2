"""URIs: without secrets for messages, logs and records, and those of SQLite files."""

import re
from pathlib import Path
from urllib.parse import quote, unquote

# User and password before the host, up to the last @; options or a fragment at the end.
_USER = re.compile(r"([A-Za-z][\w+.-]*://)[^/\s]*@")
_SECRET_OPTION = re.compile(r"[?&][^=&]*(pass|pwd|token|secret|key|sign|credential)[^=&]*=", re.I)
_OPTIONS = re.compile(r"([A-Za-z][\w+.-]*://[^\s?#]*)[?#][^\s'\"<>)]*")


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
