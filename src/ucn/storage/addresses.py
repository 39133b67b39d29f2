"""Addresses as they may be shown in messages, logs and records: without what may be a secret."""

import re

# A name and a password before the host, up to the last @; and options or a fragment at the end.
_USER = re.compile(r"([A-Za-z][\w+.-]*://)[^/\s]*@")
_SECRET_OPTION = re.compile(r"[?&][^=&]*(pass|pwd|token|secret|key|sign|credential)[^=&]*=", re.I)
_OPTIONS = re.compile(r"([A-Za-z][\w+.-]*://[^\s?#]*)[?#][^\s'\"<>)]*")


def redact(text: str) -> str:
    """A URI, or a text, whose URIs are without user, password, options and fragment."""
    return _OPTIONS.sub(r"\1", _USER.sub(r"\1", text))


def holds_secret(text: str) -> bool:
    """Whether a URI names a user or password, or an option that looks like a secret."""
    return "://" in text and bool(_USER.match(text) or _SECRET_OPTION.search(text))
