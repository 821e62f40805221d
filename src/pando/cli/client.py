"""The HTTP client of the commands: one connection to one server, bookmarks carried along, `/v2/pipeline` by helper.

Standard library only, so that a command starts quickly. Not here: finding the address and the token (see `cli.access`),
printing. Not for concurrent use.
"""

from __future__ import annotations

import http.client
import select
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from pando.cli.wire import (
    Rows,
    SqlValue,
    WirePipeline,
    WireResult,
    chained_batch,
    decode_batch,
    decode_pipeline,
    decode_rows,
    read_rows,
    statement,
)
from pando.errors import CallerError, InvalidRequest, PandoError, PrimaryUnavailable, RetryLater, SqlError
from pando.limits import BODY_SIZE_BYTES_MAX

TIMEOUT_S = 60.0
"""How long one answer may take before the command gives up; longer than any statement may run."""
CHUNK_BYTES = 256 * 1024
"""Size of one read of a file that is sent or received."""
ERROR_BODY_BYTES_MAX = 64 * 1024
"""How much of an error's body is read."""


_NOT_THERE = frozenset({404, 405, 501})
"""What other servers answer to our routes; a Pando server gives a code of its own with them."""


class Sink(Protocol):
    """Where a download goes."""

    def write(self, data: bytes, /) -> int:
        """Take a piece."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A response with its whole body."""

    status: int
    content_type: str
    body: bytes


class ServerError(PandoError):
    """The server refused; code, status and `retryable` are the server's."""

    code = "SERVER_ERROR"

    def __init__(self, message: str, *, code: str, status: int, retryable: bool) -> None:
        super().__init__(message, code=code)
        self.status = status
        self.retryable = retryable


class Unreachable(RetryLater):
    """Nothing answers at the address."""

    code = "UNREACHABLE"


def read_error(answer: Answer, url: str) -> PandoError:
    """Make an error from an answer that is none: JSON with `error`, `message`, `code`, or plain text."""
    code, message, retryable = f"HTTP_{answer.status}", "", answer.status in (429, 503)
    try:
        found = msgspec.json.decode(answer.body)
    except msgspec.DecodeError:
        message = answer.body[:500].decode(errors="replace").strip()
        found = None
    if isinstance(found, dict):
        inner = found.get("error")
        fields = inner if isinstance(inner, dict) else found
        message = str(fields.get("message") or (inner if isinstance(inner, str) else ""))
        code = str(fields.get("code") or code)
        retryable = bool(fields.get("retryable", retryable))
    if code.startswith("HTTP_") and (answer.status in _NOT_THERE or answer.body.lstrip().startswith(b"<")):
        code, retryable = "NOT_PANDO", False
        message = f"{url} does not answer as a Pando server (status {answer.status}): --url names another address"
    message = message or f"{url} answered with status {answer.status}"
    if answer.status == 401:
        message = message.removesuffix("; `pando token` makes one") + (
            "; give a token with --token or PANDO_TOKEN, or what makes one: --dir of a node that keeps the secret, or "
            "PANDO_SECRET"
        )
    return ServerError(message, code=code, status=answer.status, retryable=retryable)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Base:
    scheme: str
    host: str
    port: int
    path: str

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"


def parse_url(text: str) -> _Base:
    """Read `http://host:port`, `libsql://host`, or a bare `host:port`; raises InvalidRequest."""
    full = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(full)
        port = parts.port
    except ValueError as error:
        raise InvalidRequest(f"{text!r} is no address: write http://HOST:PORT") from error
    scheme = {"http": "http", "ws": "http", "https": "https", "wss": "https", "libsql": "https"}.get(parts.scheme)
    if scheme is None or not parts.hostname:
        raise InvalidRequest(f"{text!r} is no address: write http://HOST:PORT")
    default_port = 443 if scheme == "https" else 80
    return _Base(scheme=scheme, host=parts.hostname, port=port or default_port, path=parts.path.rstrip("/"))


class Client:
    """One server. A connection is opened when needed, kept, and opened anew when the server closed it meanwhile."""

    def __init__(self, url: str, *, token: str | None = None, timeout_s: float = TIMEOUT_S) -> None:
        self._base = parse_url(url)
        self._token = token
        self._timeout_s = timeout_s
        self._connection: http.client.HTTPConnection | None = None
        self.bookmark = ""
        """The newest bookmark that the server gave; sent along with each request."""

    @property
    def url(self) -> str:
        """The address without a slash at its end."""
        return self._base.url

    def close(self) -> None:
        """Close the connection; the client may be used again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- plain requests -----------------------------------------------------------------------------------------------

    def request(
        self, method: str, path: str, *, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """Send a request and read the whole answer, whatever its status; raises Unreachable."""
        response = self._send(method, path, body, headers or {})
        try:
            data = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise self._broken(error) from error
        return Answer(status=response.status, content_type=response.headers.get("content-type", ""), body=data)

    def get_json(self, path: str, query: dict[str, str] | None = None) -> object:
        """GET and decode; raises the server's error."""
        return self._json("GET", _with_query(path, query), None)

    def post_json(self, path: str, query: dict[str, str] | None = None, body: object = None) -> object:
        """POST and decode; raises the server's error."""
        return self._json("POST", _with_query(path, query), b"" if body is None else msgspec.json.encode(body))

    def delete_json(self, path: str) -> object:
        """DELETE and decode; raises the server's error."""
        return self._json("DELETE", path, None)

    def download(self, path: str, query: dict[str, str], target: Sink, headers: dict[str, str] | None = None) -> int:
        """GET into an open file; gives the number of bytes. Raises the server's error, or Unreachable."""
        response = self._send("GET", _with_query(path, query), None, headers or {})
        self._raise_for(response)
        expected = response.length
        written = 0
        while chunk := self._read_piece(response):
            written += target.write(chunk)
        if expected is not None and written != expected:
            raise Unreachable(f"{self.url} closed the connection after {written} of {expected} bytes: try again")
        return written

    def upload(self, path: str, query: dict[str, str], source: Iterator[bytes], size: int) -> object:
        """POST a stream of `size` bytes and decode the answer."""
        self.close()
        headers = {"content-type": "application/octet-stream", "content-length": str(size)}
        response = self._send("POST", _with_query(path, query), source, headers)
        self._raise_for(response)
        return _decode_json(response.read(), self.url)

    # -- SQL ----------------------------------------------------------------------------------------------------------

    def stream(self, database: str = "") -> SqlStream:
        """Open a stream: a session that may keep a transaction open from one call to the next."""
        return SqlStream(self, database)

    def execute(self, sql: str, args: Iterable[SqlValue] = (), *, database: str = "") -> Rows:
        """Run one statement in a stream of its own; raises SqlError."""
        stream = self.stream(database)
        return stream.execute(sql, args, close=True)

    def pipeline(self, payload: dict[str, object], *, database: str = "") -> WirePipeline:
        """POST to /v2/pipeline; raises the server's error, not those of single requests."""
        try:
            data = msgspec.json.encode(payload)
        except UnicodeEncodeError as error:
            raise InvalidRequest("the SQL, or the name of the database, is no text in UTF-8") from error
        if len(data) > BODY_SIZE_BYTES_MAX:
            raise InvalidRequest(
                f"this request has {len(data)} bytes, over the limit of {BODY_SIZE_BYTES_MAX}: split it"
            )
        headers = {"content-type": "application/json"}
        if database:
            headers["x-namespace"] = database
        answer = self.request("POST", "/v2/pipeline", body=data, headers=headers)
        if answer.status != 200:
            raise read_error(answer, self.url)
        try:
            return decode_pipeline(answer.body)
        except msgspec.DecodeError as error:
            raise self._strange(error) from error

    def _read_piece(self, response: http.client.HTTPResponse) -> bytes:
        try:
            return response.read(CHUNK_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise self._broken(error) from error

    # -- inside -------------------------------------------------------------------------------------------------------

    def _json(self, method: str, path: str, body: bytes | None) -> object:
        headers = {"content-type": "application/json"} if body else {}
        answer = self.request(method, path, body=body, headers=headers)
        if answer.status >= 400:
            raise read_error(answer, self.url)
        return _decode_json(answer.body, self.url)

    def _raise_for(self, response: http.client.HTTPResponse) -> None:
        if response.status >= 400:
            body = response.read(ERROR_BODY_BYTES_MAX)
            self.close()
            raise read_error(Answer(status=response.status, content_type="", body=body), self.url)

    def _send(
        self, method: str, path: str, body: bytes | Iterator[bytes] | None, headers: dict[str, str]
    ) -> http.client.HTTPResponse:
        sent = {"accept-encoding": "identity", **headers}
        if self._token:
            sent["authorization"] = f"Bearer {self._token}"
        if self.bookmark:
            sent["pando-bookmark"] = self.bookmark
        response = self._exchange(method, self._base.path + path, body, sent)
        self.bookmark = response.headers.get("pando-bookmark") or self.bookmark
        return response

    def _exchange(
        self, method: str, path: str, body: bytes | Iterator[bytes] | None, headers: dict[str, str]
    ) -> http.client.HTTPResponse:
        try:
            connection = self._connect()
            connection.request(method, path, body=body, headers=headers)
            return connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise self._broken(error) from error

    def _connect(self) -> http.client.HTTPConnection:
        if self._connection is not None and _is_ended(self._connection):
            self.close()
        if self._connection is None:
            kind = http.client.HTTPSConnection if self._base.scheme == "https" else http.client.HTTPConnection
            connection = kind(self._base.host, self._base.port, timeout=self._timeout_s)
            connection.connect()
            self._connection = connection
        return self._connection

    def _broken(self, error: Exception) -> PandoError:
        self.close()
        if isinstance(error, ConnectionRefusedError):
            return Unreachable(f"no server at {self.url}: start one with `pando serve` or `pando up`, or give --url")
        if isinstance(error, TimeoutError):
            return Unreachable(f"{self.url} did not answer within {self._timeout_s:g} s: see `pando status`")
        return Unreachable(f"the connection to {self.url} failed: {error or type(error).__name__}")

    def _strange(self, error: Exception) -> PandoError:
        return CallerError(f"{self.url} does not answer as a Pando server: {error}", code="NOT_PANDO")


class SqlStream:
    """A Hrana stream: requests in order, a transaction may span several calls. Ends with `close`, or with an error."""

    def __init__(self, client: Client, database: str) -> None:
        self._client = client
        self._database = database
        self._baton: str | None = None

    @property
    def is_open(self) -> bool:
        """True while the server keeps state for this stream."""
        return self._baton is not None

    def execute(self, sql: str, args: Iterable[SqlValue] = (), *, close: bool = False) -> Rows:
        """Run one statement; raises SqlError."""
        result = self._send([{"type": "execute", "stmt": statement(sql, args)}], close=close)[0]
        return read_rows(decode_rows(self._value(result)))

    def batch(self, statements: Iterable[dict[str, object]], *, close: bool = False) -> list[Rows | SqlError | None]:
        """Run statements, each only if the one before succeeded; gives rows, the error or None (skipped) for each."""
        result = self._send([chained_batch(statements)], close=close)[0]
        batch = decode_batch(self._value(result))
        answers: list[Rows | SqlError | None] = []
        for rows, error in zip(batch.step_results, batch.step_errors, strict=True):
            if error is not None:
                answers.append(SqlError(error.message, code=error.code))
            else:
                answers.append(None if rows is None else read_rows(rows))
        return answers

    def sequence(self, sql: str, *, close: bool = False) -> None:
        """Run all statements of a text without rows; raises SqlError at the first that fails."""
        self._value(self._send([{"type": "sequence", "sql": sql}], close=close)[0])

    def close(self) -> None:
        """End the stream; an open transaction is rolled back. Does nothing when the server keeps nothing."""
        if self._baton is not None:
            self._send([], close=True)

    def _send(self, requests: list[dict[str, object]], *, close: bool) -> list[WireResult]:
        ending = [{"type": "close"}] if close else []
        baton, self._baton = self._baton, None  # an error of any kind ends the stream
        answer = self._client.pipeline({"baton": baton, "requests": requests + ending}, database=self._database)
        self._baton = None if close else answer.baton
        if len(answer.results) < len(requests):
            raise PrimaryUnavailable(f"{self._client.url} answered fewer results than it was asked for")
        return answer.results

    def _value(self, result: WireResult) -> msgspec.Raw:
        if result.error is not None:
            raise SqlError(result.error.message, code=result.error.code)
        return result.response.result if result.response is not None else msgspec.Raw(b"null")


def _is_ended(connection: http.client.HTTPConnection) -> bool:
    """Tell whether the server closed an idle connection: nothing is due on it, so readable means end of file."""
    return connection.sock is None or bool(select.select([connection.sock], [], [], 0)[0])


def _with_query(path: str, query: dict[str, str] | None) -> str:
    return f"{path}?{urlencode(query, quote_via=quote)}" if query else path


def _decode_json(data: bytes, url: str) -> object:
    if not data.strip():
        return None
    try:
        return msgspec.json.decode(data)
    except msgspec.DecodeError as error:
        raise CallerError(f"{url} does not answer as a Pando server: {error}", code="NOT_PANDO") from error
