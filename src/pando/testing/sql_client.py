"""A small blocking client of SQL over HTTP for tests with real nodes: one connection per address, kept alive.

It tells apart what a test of durability must know: nothing was sent (`NotSent`), or nobody knows (`NoAnswer`). It never
sends anything twice. Not thread-safe: one client per thread. Not here: what the answers mean to a test.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import msgspec

Json = dict[str, Any]


class NotSent(Exception):
    """Nobody took the connection: the request has certainly not been done."""


class NoAnswer(Exception):
    """The connection broke, or the time was over: the request may have been done."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a node answered."""

    status: int
    body: bytes
    bookmark: str

    @property
    def json(self) -> Json:
        """The body as a JSON object; an empty one when it is none."""
        try:
            return msgspec.json.decode(self.body, type=Json)
        except msgspec.MsgspecError:
            return {}

    @property
    def error(self) -> Json | None:
        """The error of the request, or of its first failed statement; None if all went well."""
        found = self.json
        if self.status != 200:
            return found if "code" in found else {"code": f"HTTP_{self.status}", "message": self.body[:200].decode()}
        return _first_error(found.get("results", []))

    @property
    def rows(self) -> list[list[Any]]:
        """The values of the first result's rows, integers as such. Raises ValueError when there is an error."""
        error = self.error
        if error is not None:
            raise ValueError(f"no rows but {error}")
        result = self.json["results"][0]["response"]["result"]
        return [[_value(cell) for cell in row] for row in result["rows"]]


def _first_error(results: Sequence[Json]) -> Json | None:
    for result in results:
        if result["type"] == "error":
            error: Json = result["error"]
            return error
        inner = result["response"].get("result", {})
        for error in inner.get("step_errors", []):
            if error is not None:
                return dict(error)
    return None


def _value(cell: Json) -> Any:  # noqa: ANN401 - any SQL value
    return int(cell["value"]) if cell["type"] == "integer" else cell.get("value")


def statement(sql: str, *args: str | int) -> Json:
    """Give a statement with its arguments in Hrana's form."""
    values = [{"type": "integer" if isinstance(arg, int) else "text", "value": str(arg)} for arg in args]
    return {"sql": sql, "args": values}


def execute(sql: str, *args: str | int) -> Json:
    """Give a request that runs one statement."""
    return {"type": "execute", "stmt": statement(sql, *args)}


def transaction(statements: Sequence[Json]) -> Json:
    """Give a request that runs statements from BEGIN to COMMIT, all or nothing."""
    steps: list[Json] = [{"stmt": statement("BEGIN IMMEDIATE")}]
    for stmt in (*statements, statement("COMMIT")):
        steps.append({"stmt": stmt, "condition": {"type": "ok", "step": len(steps) - 1}})
    failed = {"type": "not", "cond": {"type": "ok", "step": len(steps) - 1}}
    steps.append({"stmt": statement("ROLLBACK"), "condition": failed})
    return {"type": "batch", "batch": {"steps": steps}}


CLOSE: Json = {"type": "close"}


class SqlClient:
    """Asks any node with one token."""

    def __init__(self, token: str, *, timeout_s: float = 10.0) -> None:
        """`timeout_s`: longest wait for one answer."""
        self._token = token
        self._timeout_s = timeout_s
        self._connections: dict[str, http.client.HTTPConnection] = {}

    def __enter__(self) -> SqlClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def pipeline(
        self,
        url: str,
        requests: Sequence[Json],
        *,
        baton: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a pipeline. Raises NotSent, NoAnswer."""
        body = msgspec.json.encode({"baton": baton, "requests": requests})
        return self.ask(url, "POST", "/v2/pipeline", body, headers)

    def run(self, url: str, sql: str, *args: str | int, **headers: str) -> Answer:
        """Run one statement; `pando_freshness="eventual"` is a header. Raises NotSent, NoAnswer."""
        named = {name.replace("_", "-"): value for name, value in headers.items() if value}
        return self.pipeline(url, [execute(sql, *args), CLOSE], headers=named)

    def ask(
        self, url: str, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send any request. Raises NotSent, NoAnswer."""
        connection = self._connected(url)
        try:
            connection.request(method, path, body, {"Authorization": f"Bearer {self._token}", **(headers or {})})
            with contextlib.closing(connection.getresponse()) as found:
                return Answer(found.status, found.read(), found.getheader("Pando-Bookmark", ""))
        except (OSError, http.client.HTTPException) as error:
            self.drop(url)
            raise NoAnswer(f"{url}: {error!r}") from error

    def _connected(self, url: str) -> http.client.HTTPConnection:
        connection = self._connections.get(url)
        if connection is not None and connection.sock is not None:
            return connection
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=self._timeout_s)
        try:
            connection.connect()
        except OSError as error:
            connection.close()
            raise NotSent(f"{url}: {error!r}") from error
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connections[url] = connection
        return connection

    def drop(self, url: str) -> None:
        """Close the connection to an address, so that the next request opens another."""
        connection = self._connections.pop(url, None)
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.close()

    def close(self) -> None:
        """Close all connections."""
        for url in list(self._connections):
            self.drop(url)
