"""HTTP as PocketBase has it: what a request says, error envelopes, `?fields=` aside. For the routes under `/api/`.

Not here: which route does what (`pando.api.records_app`), forms and their types (`pando.records.fields.forms`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

import msgspec

from pando.api.http import Headers, Request, Response
from pando.api.records_forms import FormLimits, is_form, plain_type, read_parts
from pando.errors import (
    CorruptionError,
    InternalError,
    NotReady,
    PandoError,
    RequestTooLarge,
    SqlError,
    StorageError,
)
from pando.records.fields.forms import read_form
from pando.records.filter import FilterError
from pando.records.problems import ApiError, Problem, Problems, bad_request

JSON: Final = (b"content-type", b"application/json")
SECURITY: Final[Headers] = [
    (b"x-xss-protection", b"1; mode=block"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"SAMEORIGIN"),
    (b"cross-origin-opener-policy", b"same-origin"),
]
"""On every answer."""
QUERY_BYTES_MAX: Final = 64 * 1024
PARAMETERS_MAX: Final = 1000
BODY_BYTES_MAX: Final = 32 << 20
_decode = msgspec.json.Decoder(strict=True).decode
_encode = msgspec.json.Encoder().encode


@dataclass(slots=True)
class ApiRequest:
    """One request. `segments` is the path below `/api`, decoded."""

    request: Request
    method: str
    segments: tuple[str, ...]
    query: Mapping[str, str]
    headers: Mapping[str, str]

    @property
    def authorization(self) -> str:
        """The header of that name."""
        return self.headers.get("authorization", "")

    async def json(self, size_max: int = BODY_BYTES_MAX) -> dict[str, Any]:
        """Read a JSON object, or a form as one; an empty body is an empty object. Raises ApiError, RequestTooLarge."""
        content_type = self.headers.get("content_type", "")
        if is_form(content_type):
            limits = FormLimits(body=size_max, texts=size_max)
            return read_form((await read_parts(self.request.chunks(), content_type, limits)).texts)
        body = await self.request.body(size_max)
        if not body:
            return {}
        kind = plain_type(content_type)
        if kind and kind != "application/json" and not kind.endswith("+json"):
            raise bad_request(f"The content type {kind[:100]} is not supported here.")
        return read_object(body)


def read_object(body: bytes) -> dict[str, Any]:
    """Read a JSON object. Raises ApiError."""
    try:
        value = _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise bad_request(f"The request body is no valid JSON: {error}.") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise bad_request("The request body must be a JSON object.")
    return value


def read_request(request: Request) -> ApiRequest:
    """Take a request apart. Raises ApiError."""
    raw: bytes = request.scope["query_string"]
    if len(raw) > QUERY_BYTES_MAX:
        raise bad_request(f"The query has {len(raw)} bytes, more than {QUERY_BYTES_MAX}.")
    path: bytes = request.scope["raw_path"] or request.scope["path"].encode()
    segments = tuple([unquote(part) for part in path.decode("latin-1").split("/")[2:]])
    return ApiRequest(request, request.scope["method"], segments, read_query(raw), read_headers(request.headers))


def read_query(raw: bytes) -> Mapping[str, str]:
    """Give parameters by name, of repeated ones the first. Raises ApiError."""
    if not raw:
        return {}
    found: dict[str, str] = {}
    try:
        pairs = parse_qsl(raw.decode("latin-1"), keep_blank_values=True, max_num_fields=PARAMETERS_MAX)
    except ValueError as error:
        raise bad_request(f"The query cannot be read: {error}.") from error
    for name, value in pairs:
        found.setdefault(name, value)
    return found


def read_headers(headers: Headers) -> Mapping[str, str]:
    """Give headers as rules see them: small letters, `_` for `-`, of repeated ones the first."""
    found: dict[str, str] = {}
    for name, value in headers:
        found.setdefault(name.decode("latin-1").replace("-", "_"), value.decode("latin-1"))
    return found


# -- answers ------------------------------------------------------------------------------------------------------


def answer(value: object, status: int = 200) -> Response:
    """Make a JSON answer."""
    return Response(status, [JSON, *SECURITY], _encode(value))


def raw_answer(body: bytes, status: int = 200) -> Response:
    """Make an answer of JSON that is written already."""
    return Response(status, [JSON, *SECURITY], body)


NO_CONTENT: Final = Response(204, list(SECURITY))


_UNTOLD: Final = (SqlError, FilterError, StorageError, CorruptionError, InternalError)
"""Errors whose text is not for callers: it names tables, columns, what rules say, values of ours."""


def is_untold(error: PandoError) -> bool:
    """Tell whether callers hear only that something went wrong; the rest is for the log."""
    return isinstance(error, _UNTOLD)


def envelope(error: PandoError) -> Response:
    """Make the answer for an error: `{"data":{...},"message":"...","status":N}`."""
    data = data_of(error.data) if isinstance(error, ApiError) else {}
    status = error.status
    message = "Something went wrong while processing your request" if is_untold(error) else error.message
    body = _encode({"data": data, "message": sentence(message), "status": status})
    headers = [JSON, *SECURITY]
    if isinstance(error, NotReady) or error.retryable:
        headers.append((b"retry-after", b"1"))
    if isinstance(error, RequestTooLarge):
        headers.append((b"connection", b"close"))
    return Response(status, headers, body)


def data_of(problems: Problems) -> dict[str, Any]:
    """Give problems as JSON values, keys sorted."""
    return {name: _shown(problem) for name, problem in sorted(problems.items())}


def _shown(problem: Problem | Problems) -> dict[str, Any]:
    if not isinstance(problem, Problem):
        return data_of(problem)
    shown: dict[str, Any] = {"code": problem.code, "message": sentence(problem.message)}
    if problem.params:
        shown["params"] = dict(sorted(problem.params.items()))
    return shown


def sentence(text: str) -> str:
    """Begin with a capital letter, and end with a full stop."""
    text = text.strip()
    if not text:
        return ""
    return text[0].upper() + text[1:] + ("" if text[-1] in ".!?" else ".")
