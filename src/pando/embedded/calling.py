"""One call of the records API within this process: from method, path and values to JSON, without HTTP.

The routes are those of the API, asked with their own kind of request. A replica passes writes to the primary over HTTP,
as it does for everybody. Who asks is a superuser that needs no account, or somebody with a token. Not here: names and
types that programs use (`pando.embedded.collections`).
"""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

import msgspec

from pando.api.client_ip import sealed
from pando.api.http import Headers, Message, Request, Response
from pando.api.records_http import ApiRequest
from pando.api.site import OpenSite
from pando.clock import random_bytes
from pando.errors import InvalidRequest, NotReady, OutcomeUnknown, PandoError, PrimaryUnavailable
from pando.records.auth.tokens import Issuer
from pando.records.desk import Asking, find_all, find_by_id
from pando.records.model import SUPERUSERS_ID
from pando.records.problems import ApiError, Problem, Problems, not_found
from pando.records.record import SUPERUSER as SUPERUSER_VIEWER
from pando.records.record import Record as Stored
from pando.records.signing_in import auth_of, issuer_of

TOKEN_S: Final = 60
"""Life of a token that is made for one call."""
File = Path | tuple[str, bytes]
"""A file to be stored: where it is, or name and content."""
Files = Mapping[str, File | Sequence[File]]


@dataclass(frozen=True, slots=True)
class Who:
    """Who asks: a superuser, the holder of a token, or a record by collection and id; else a guest."""

    is_superuser: bool = False
    token: str = ""
    record: tuple[str, str] | None = None


SUPERUSER: Final = Who(is_superuser=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One call. `segments` is the path below `/api`."""

    method: str
    segments: tuple[str, ...]
    query: Mapping[str, str] | None = None
    body: object = None
    files: Files | None = None


async def call(site: OpenSite, who: Who, asked: Asked) -> Any:  # noqa: ANN401 - JSON
    """Do it; gives the JSON of the answer, None if there is none. Raises ApiError and the errors of the node."""
    response = await respond(site, who, asked)
    if response.status >= 400:
        raise refusal(response)
    if response.stream is not None or not _is_json(response):
        raise InvalidRequest(f"/api/{'/'.join(asked.segments)[:200]} gives no JSON; ask for it over HTTP")
    return msgspec.json.decode(response.body) if response.body else None


def _is_json(response: Response) -> bool:
    kind = next((value for name, value in response.headers if name == b"content-type"), b"")
    return not response.body or kind.startswith(b"application/json")


async def respond(site: OpenSite, who: Who, asked: Asked) -> Response:
    """The same; what another node refuses is an answer here, what this one refuses is raised."""
    headers, body = _body_of(asked)
    token = await _token_of(site, who)
    request = _request(asked, headers, body, token)
    found = site.router.find(request)
    if found is None:
        raise not_found("The requested resource wasn't found.")
    desk = site.desk
    if found.writes and not desk.engine.is_primary:
        return await _elsewhere(site, who, asked, request)
    if not desk.engine.is_primary and desk.engine.is_late and asked.segments[2:3] == ("records",):
        try:
            return await _elsewhere(site, who, asked, request)
        except (PrimaryUnavailable, OutcomeUnknown, NotReady):  # old data are better than none
            pass
    asking = await desk.asking(token, method=request.method, query=request.query, headers=request.headers)
    return await found.route(desk, as_superuser(asking) if who.is_superuser else asking, request)


async def _elsewhere(site: OpenSite, who: Who, asked: Asked, request: ApiRequest) -> Response:
    """Have the primary do it."""
    if who.is_superuser:
        headers, body = _body_of(asked)
        request = _request(asked, headers, body, await _for_another_node(site))
        request.request.scope["client"] = (allowed_address((await site.desk.known()).settings.superuser_ips), 0)
    return await site.forward(sealed(request, site.desk.guard.peers, site.desk.clock))


def allowed_address(networks: Sequence[str]) -> str:
    """Give an address that superusers may come from: this program is no stranger, it has the cluster's secret."""
    return networks[0].partition("/")[0] if networks else "127.0.0.1"


def as_superuser(asking: Asking) -> Asking:
    """Give the same request with all rights."""
    return replace(asking, viewer=SUPERUSER_VIEWER, info=replace(asking.info, is_superuser=True))


# -- who asks ---------------------------------------------------------------------------------------------------------


async def _token_of(site: OpenSite, who: Who) -> str:
    if who.record is None:
        return who.token
    reference, id = who.record
    known = await site.desk.known()
    collection = known.schema.find(reference)
    if collection is None:
        raise not_found(f"There is no collection {reference[:100]}.")
    auth_of(collection)
    record = await find_by_id(site.desk.engine.reads(), collection, id)
    if record is None:
        raise not_found(f"There is no record {id[:100]} in {collection.name}.")
    return _token(site, record)


def _token(site: OpenSite, record: Stored) -> str:
    issuer: Issuer = issuer_of(record, auth_of(record.collection))
    return issuer.auth_token(site.desk.clock.wall_ms() / 1000, is_refreshable=False, duration_s=TOKEN_S)


async def _for_another_node(site: OpenSite) -> str:
    """Give a token that the primary takes. Raises InvalidRequest if there is no superuser whose it could be."""
    known = await site.desk.known()
    superusers = known.schema.find(SUPERUSERS_ID)
    found = [] if superusers is None else await find_all(site.desk.engine.reads(), superusers, "1 LIMIT 1", ())
    if not found:
        raise InvalidRequest(
            "this node is a replica, and a write with all rights goes to the primary in the name of a superuser: "
            "make one there with `pando superuser upsert EMAIL PASSWORD --dir DIR`"
        )
    return _token(site, found[0])


# -- requests ---------------------------------------------------------------------------------------------------------


def _request(asked: Asked, headers: Headers, body: bytes, token: str) -> ApiRequest:
    query = dict(asked.query or {})
    if token:
        headers = [(b"authorization", token.encode("latin-1", "replace")), *headers]
    path = quote("/api/" + "/".join(quote(part, safe="") for part in asked.segments), safe="/%").encode()
    scope = {
        "type": "http",
        "method": asked.method,
        "path": path.decode(),
        "raw_path": path,
        "query_string": urlencode(query).encode(),
        "headers": headers,
        "client": None,
    }
    shown = {name.decode().replace("-", "_"): value.decode("latin-1") for name, value in headers}
    return ApiRequest(Request(scope, _Body(body)), asked.method, asked.segments, query, shown)


class _Body:
    """Gives a body that is there already; see ASGI's `receive`."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def __call__(self) -> Message:
        """Give all of it."""
        return {"type": "http.request", "body": self._body, "more_body": False}


def _body_of(asked: Asked) -> tuple[Headers, bytes]:
    """Write the body. Raises InvalidRequest for values that are no JSON, and files that cannot be read."""
    if asked.body is None and not asked.files:
        return [], b""
    try:
        body = msgspec.json.encode({} if asked.body is None else asked.body)
    except (TypeError, ValueError, msgspec.MsgspecError, RecursionError) as error:
        raise InvalidRequest(f"the values cannot be written as JSON: {error}") from error
    kind = b"application/json"
    if asked.files:
        boundary = random_bytes(16).hex().encode()
        body, kind = _multipart(body, asked.files, boundary), b"multipart/form-data; boundary=" + boundary
    return [(b"content-type", kind), (b"content-length", b"%d" % len(body))], body


def _multipart(payload: bytes, files: Files, boundary: bytes) -> bytes:
    parts = [(b'name="@jsonPayload"', b"", payload)]
    for field, given in files.items():
        for each in [given] if isinstance(given, Path | tuple) else given:
            name, content = _read(each)
            kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
            words = f'name="{_quoted(field)}"; filename="{_quoted(name)}"'.encode()
            parts.append((words, f"content-type: {kind}\r\n".encode(), content))
    lines = [
        b"--%b\r\ncontent-disposition: form-data; %b\r\n%b\r\n%b\r\n" % (boundary, words, kind, content)
        for words, kind, content in parts
    ]
    return b"".join(lines) + b"--%b--\r\n" % boundary


def _read(file: File) -> tuple[str, bytes]:
    if isinstance(file, tuple):
        return file
    try:
        return file.name, file.read_bytes()
    except OSError as error:
        raise InvalidRequest(f"the file {file} cannot be read: {error.strerror}") from error


def _quoted(text: str) -> str:
    return text.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


# -- answers of another node ------------------------------------------------------------------------------------------


def refusal(response: Response) -> PandoError:
    """Make the error of an answer."""
    try:
        told = msgspec.json.decode(response.body)
    except msgspec.MsgspecError:
        told = None
    if not isinstance(told, dict):
        return ApiError(response.status, f"The primary answered with status {response.status}.")
    data = told.get("data")
    return ApiError(response.status, str(told.get("message", "")), _problems(data) if isinstance(data, dict) else {})


def _problems(data: Mapping[str, Any]) -> Problems:
    found: dict[str, Problem | Problems] = {}
    for name, each in data.items():
        if isinstance(each, dict) and isinstance(each.get("code"), str):
            found[name] = Problem(each["code"], str(each.get("message", "")), each.get("params"))
        elif isinstance(each, dict):
            found[name] = _problems(each)
    return found
