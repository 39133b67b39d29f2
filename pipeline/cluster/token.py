"""Ray's token: where it lies, and the header that sends it.

Ray takes the first of the variable ``RAY_AUTH_TOKEN``, the file that ``RAY_AUTH_TOKEN_PATH`` names,
and ``~/.ray/auth_token``, where ``RAY_AUTH_MODE`` is ``token``
(https://docs.ray.io/en/latest/ray-security/token-auth.html).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

MODE, TOKEN, TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"


@dataclass(frozen=True)
class TokenPlace:
    """Where a token should be.

    Attributes:
        name: of the variable or the file.
        present: whether a token is there.
        mode: permission bits of the file; None of a variable, or where no file can be read.
    """

    name: str
    present: bool
    mode: int | None = None


def find_token(environment: Mapping[str, str], home: Path) -> TokenPlace:
    """The place where Ray would look for its token."""
    if environment.get(TOKEN):
        return TokenPlace(TOKEN, True)
    path = _file(environment, home)
    token = _read(path)
    return TokenPlace(str(path), bool(token), path.stat().st_mode & 0o777 if token else None)


def token_header(environment: Mapping[str, str], home: Path) -> dict[str, str]:
    """What sends the token with a request; empty where there is none, or none is wanted.

    As `ray start` does, a token that is there is taken where ``RAY_AUTH_MODE`` is not set.
    """
    if environment.get(MODE, "token").lower() != "token":
        return {}
    token = environment.get(TOKEN) or _read(_file(environment, home))
    return {"Authorization": f"Bearer {token}"} if token else {}


def _file(environment: Mapping[str, str], home: Path) -> Path:
    return Path(environment.get(TOKEN_PATH) or home / ".ray" / "auth_token")


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""
