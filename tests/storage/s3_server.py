"""A server of the S3 protocol on loopback that fails as it is told."""

import random
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import pytest
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

CODES = {
    "403": (b"AccessDenied", "403 Forbidden"),
    "skewed": (b"RequestTimeTooSkewed", "403 Forbidden"),
    "409": (b"ConditionalRequestConflict", "409 Conflict"),
    "500": (b"InternalError", "500 Internal Server Error"),
    "501": (b"NotImplemented", "501 Not Implemented"),
    "503": (b"SlowDown", "503 Slow Down"),
}
# Closed unanswered; closed when all is done; the answer's body breaks off; closed when half of the
# request's body is there; answered late; answered too late.
CUT, LOST, SHORT, HALF, SLOW, STALLED = "cut", "lost", "short", "half", "slow", "stalled"
WAITS_S = {SLOW: 0.05, STALLED: 1.0}


class Server:
    """A server of the S3 protocol on loopback.

    Attributes:
        asked: method and path of every request so far.
        fault: from method and path to how the request fails, or None.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.fault: Callable[[str, str], str | None] = lambda method, path: None
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._server = make_server(
            "127.0.0.1", 0, self._answer, threaded=True, request_handler=_Quiet
        )
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def fail_some(self, rate: float, kinds: Iterable[str], seed: int = 0) -> list[str]:
        """Let a part of the requests fail; return what will tell how they did."""
        rng, lock, happened, choices = random.Random(seed), threading.Lock(), [], list(kinds)

        def fault(method: str, path: str) -> str | None:
            with lock:
                kind = rng.choice(choices) if rng.random() < rate else None
                happened.extend([kind] if kind else [])
                return kind

        self.fault = fault
        return happened

    @contextmanager
    def bucket(self, name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """Have an empty bucket, and the environment that leads to it; no fault stays behind."""
        monkeypatch.setenv("AWS_ENDPOINT_URL", self.url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-that-must-not-show")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        bucket = boto3.resource("s3").Bucket(name)
        bucket.create()
        self.asked.clear()
        yield
        self.fault = lambda method, path: None
        bucket.objects.delete()
        bucket.delete()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        request = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        kind = self.fault(*request)
        self.asked.append(request)
        if kind in CODES:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            code, status = CODES[kind]
            start_response(status, [("Content-Type", "application/xml")])
            return [b"<Error><Code>" + code + b"</Code><Message>no</Message></Error>"]
        if kind == HALF:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0) // 2)
        if kind in WAITS_S:
            time.sleep(WAITS_S[kind])
        if kind in (CUT, HALF, STALLED):
            return _hang_up(environ)
        answer = self._moto(environ, start_response)
        if kind == LOST:
            b"".join(answer)
            return _hang_up(environ)
        if kind == SHORT:
            whole = b"".join(answer)
            return [whole[: len(whole) // 2]]
        return answer


class _Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None: ...


def _hang_up(environ: dict[str, Any]) -> list[bytes]:
    environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
    raise ConnectionError("hung up")
