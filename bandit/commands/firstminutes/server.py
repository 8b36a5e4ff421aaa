"""The few requests that `apply` sends to a server, by the standard library: no HTTP client is needed for them."""

from __future__ import annotations

import http.client
import json
import ssl
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

SECONDS = 30.0
LONGEST = 64 << 20  # bytes of an answer


class ServerError(Exception):
    """The server cannot be asked, or it refused; says why in one line."""


class Answered(NamedTuple):
    """A status and its body, JSON or None."""

    status: int
    body: Any


class Server:
    """A server at an address.

    Args:
        url: such as http://127.0.0.1:8080; a path in it is kept.
        key: sent as Authorization: Bearer.

    Raises:
        ServerError: this is no address of one.
    """

    def __init__(self, url: str, key: str | None = None) -> None:
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            port = -1
        if parts.scheme not in ("http", "https") or not parts.hostname or port == -1 or parts.username is not None:
            raise ServerError("--url: expected an address such as http://127.0.0.1:8080, got another")
        if key is not None and (not key.isascii() or not key.isprintable()):
            raise ServerError("--key: expected a key of letters, digits and signs, got other characters")
        self.url, self.key, self._parts, self._port = url.rstrip("/"), key, parts, port
        self._headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})

    def experiment(self, name: str) -> str:
        """The path of an experiment."""
        return f"/v1/experiments/{quote(name, safe='')}"

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answered:
        """Send a request once.

        Raises:
            ServerError: nobody answers there, or not as a server of ours does.
        """
        data = None if body is None else json.dumps(body, allow_nan=False).encode()
        sent = self._headers | {name.replace("_", "-"): value for name, value in headers.items()}
        connection = self._connection()
        try:
            connection.request(method, self._parts.path.rstrip("/") + path, data, sent)
            response = connection.getresponse()
            read = response.read(LONGEST)
        except (OSError, http.client.HTTPException, ssl.SSLError) as error:
            why = str(error) or type(error).__name__
            raise ServerError(f"no answer from {self.url} ({why}): is the server running, is --url right?") from error
        finally:
            connection.close()
        try:
            return Answered(response.status, json.loads(read) if read else None)
        except ValueError:
            raise ServerError(f"{self.url} answered {response.status} without JSON: is it a bandit-server?") from None

    def _connection(self) -> http.client.HTTPConnection:
        host = self._parts.hostname or ""
        if self._parts.scheme == "https":
            return http.client.HTTPSConnection(host, self._port, timeout=SECONDS)
        return http.client.HTTPConnection(host, self._port, timeout=SECONDS)


def refused(answer: Answered) -> ServerError:
    """The error of an answer that is no success, as its problem says."""
    body = answer.body if isinstance(answer.body, dict) else {}
    code, detail = body.get("code", "no reason"), body.get("detail", "")
    hints = {
        401: "; give a key by --key or BANDIT_API_KEY",
        409: "; with --reset it would begin anew, from zero" if code == "features_changed" else "",
        412: "; somebody has changed it meanwhile: look at it again",
    }
    return ServerError(f"refused, {answer.status} {code}: {detail}{hints.get(answer.status, '')}")
