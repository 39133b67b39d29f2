"""Addresses as they may be shown: without what may be a secret."""

import re
from urllib.parse import urlsplit, urlunsplit

# A scheme, two slashes, and a name or password before the host.
_USER = re.compile(r"^[A-Za-z][\w+.-]*://[^/?#]*@")
_SECRET_OPTION = re.compile(r"[?&][^=&]*(pass|pwd|token|secret|key|sign|credential)[^=&]*=", re.I)


def shown(uri: str) -> str:
    """A URI without user, password, options and fragment; a path as it is."""
    if "://" not in uri:
        return uri
    try:
        parts = urlsplit(uri)
    except ValueError:
        return f"{uri.partition('://')[0]}://..."
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def holds_secret(text: str) -> bool:
    """Whether a URI names a user or password, or an option that looks like a secret."""
    return "://" in text and bool(_USER.match(text) or _SECRET_OPTION.search(text))


def shown_within(text: str) -> str:
    """A text whose URIs are all as :func:`shown` gives them."""
    return re.sub(r"[A-Za-z][\w+.-]*://[^\s'\"<>]+", lambda found: shown(found[0]), text)
