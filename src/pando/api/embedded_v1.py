"""Clients that keep a local file, over gRPC-web: /wal_log.ReplicationLog/... and /proxy.Proxy/... (version 1).

A frame's number names its commit, so every node answers from its own log, and no node remembers a client. What does not
follow what the client has, it gets as a snapshot: the whole file as one commit, which leads from anywhere to a state of
this history. Writes run on the primary, all of one client in one of its processes. Not here: frames
(`pando.sql.embedded_frames`), messages (`pando.sql.embedded_messages`), connections (`pando.api.embedded_sessions`).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import uuid
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from pando import limits
from pando.api.cluster import FORWARDED, read_processes
from pando.api.embedded_node import EmbeddedNode, Here, Lateness
from pando.api.embedded_sessions import ProxySessions
from pando.api.http import JSON, Handler, Request, Response, error_body
from pando.errors import InternalError, InvalidRequest, NotReady, PandoError, PrimaryUnavailable
from pando.node.http_client import exchange
from pando.sql.calls import Call
from pando.sql.embedded_frames import PAGE_SIZE, commit_number, parse_number, read_commit
from pando.sql.embedded_images import frames_of_image
from pando.sql.embedded_messages import (
    check_hello,
    decode_describe,
    decode_disconnect,
    decode_offset,
    decode_program,
    encode_described,
    encode_frame,
    encode_frames,
    encode_hello,
    encode_results,
)
from pando.sql.embedded_table import GenerationTable
from pando.sql.grpc_web import (
    CONTENT_TYPE,
    NEED_SNAPSHOT,
    NO_HELLO,
    Code,
    GrpcStatus,
    frame_error,
    frame_message,
    frame_status,
    read_message,
)
from pando.sql.messages import HranaProtocolError
from pando.store.requests import BatchResult, Describe, Described, Failure
from pando.store.segments import LogEntry
from pando.types import TXID, Position, lock_pgno, parse_database_name

LOG: Final = "wal_log.ReplicationLog"
PROXY: Final = "proxy.Proxy"
BATCH_FRAMES: Final = 1024
"""A batch ends with the commit that brings it here."""
STREAM_WAIT_S: Final = 30.0
"""A stream of frames ends when there was nothing new for this long."""
PROXY_S: Final = 60.0
CATCH_UP_S: Final = 10.0
"""How long a late replica is waited for before a client is told that there is no more: this protocol has no way to let
the primary answer."""
SIBLING: Final = b"pando-proxy-hop"
"""Header of a request that came from another process of this node."""
_HEADERS: Final = [(b"content-type", CONTENT_TYPE)]
_ANSWER: Final = frozenset({b"content-type"})

Method = Callable[[Request, Call, bytes], Awaitable[Response]]


class EmbeddedV1:
    """The routes, in one process."""

    def __init__(
        self,
        node: EmbeddedNode,
        table: GenerationTable,
        sessions: ProxySessions,
        *,
        index: int,
        web_socket: Callable[[int], Path],
        processes_file: Path,
    ) -> None:
        self._node = node
        self._table = table
        self._sessions = sessions
        self._index = index
        self._web_socket = web_socket
        self._processes_file = processes_file
        self._methods: Mapping[str, Method] = {
            f"/{LOG}/Hello": self._hello,
            f"/{LOG}/BatchLogEntries": self._batch,
            f"/{LOG}/LogEntries": self._stream,
            f"/{LOG}/Snapshot": self._snapshot,
            f"/{PROXY}/Execute": self._execute,
            f"/{PROXY}/Describe": self._describe,
            f"/{PROXY}/Disconnect": self._disconnect,
            f"/{PROXY}/StreamExec": self._stream_exec,
        }

    def routes(self) -> dict[str, Handler]:
        """Give the handlers by the first name of their paths."""
        return {LOG: self._handle, PROXY: self._handle}

    async def _handle(self, request: Request) -> Response:
        path = request.scope["path"]
        method = self._methods.get(path)
        if method is None:
            return Response(404, [JSON], error_body(f"there is nothing at {path[:200]}", "NOT_FOUND"))
        if request.scope["method"] != "POST":
            return Response(405, [JSON, (b"allow", b"POST")], error_body("use POST", "METHOD_NOT_ALLOWED"))
        try:
            call = self._call(request)
            body = await request.body(limits.BODY_SIZE_BYTES_MAX)
            with self._node.turn():
                return await method(request, call, body)
        except HranaProtocolError as error:
            return Response(200, _HEADERS, frame_status(Code.INVALID_ARGUMENT, error.message))
        except InternalError:
            raise
        except PandoError as error:
            return Response(200, _HEADERS, frame_error(error))

    def _call(self, request: Request) -> Call:
        """Read token and database: gRPC has them in headers of its own. Raises PandoError."""
        headers = [pair for pair in request.headers if pair[0] not in {b"authorization", b"x-namespace"}]
        token = request.header(b"x-authorization") or request.header(b"authorization")
        if token:
            headers.append((b"authorization", token))
        access = self._node.services.authenticate(headers)
        return self._node.checked(Call(database_of(request), access, caller=token))

    # -- what clients hold ---------------------------------------------------------------------------------------

    async def _hello(self, _request: Request, call: Call, body: bytes) -> Response:
        check_hello(read_message(body))
        log_id = await self._log_id(call.database)
        await self._node.catch_up(call.database, CATCH_UP_S)
        place = await self._newest(call.database)
        index = None if place is None else commit_number(place.epoch, place.txid)
        return _answer(encode_hello(log_id, _session(log_id), index))

    async def _newest(self, database: str) -> Position | None:
        """Give the newest position that is visible here; None for a database without pages."""
        here = await self._node.here(database)
        if not here.txid:
            return None
        place = await self._node.in_thread(partial(self._node.log.position_at, database, here.txid))
        if place is None:
            raise NotReady(f"the log of database {database!r} does not have its newest commit yet; try again")
        return place

    async def _log_id(self, database: str) -> str:
        """Name the database for its clients, as all nodes do."""
        known = await self._table.log_id(database)
        if known is None:
            await self._node.here(database)  # it must exist
            known = await self._table.make_log_id(database, str(uuid.UUID(int=self._node.random_bits(128), version=4)))
        return known

    async def _check_session(self, request: Request, database: str) -> None:
        known = await self._table.log_id(database)
        if known is None or request.header(b"x-session-token") != _session(known).encode():
            raise GrpcStatus(Code.FAILED_PRECONDITION, NO_HELLO)

    async def _batch(self, request: Request, call: Call, body: bytes) -> Response:
        offset = decode_offset(read_message(body))
        await self._check_session(request, call.database)
        entries = await self._after(call.database, offset)
        if not entries and await self._node.catch_up(call.database, CATCH_UP_S) is Lateness.CURRENT:
            entries = await self._after(call.database, offset)
        return await self._node.in_thread(lambda: _answer(_frames_message(entries)))

    async def _after(self, database: str, offset: int) -> list[LogEntry]:
        """Give commits after the one whose last frame a client has; raises GrpcStatus when it needs a snapshot."""
        here = await self._node.here(database)
        if not offset:
            if not here.txid:
                return []
            raise _need_snapshot()
        named = parse_number(offset - 1)
        if named is None:
            raise _need_snapshot()
        epoch, txid = named
        if txid > here.txid:
            if self._node.store.is_primary:
                raise _need_snapshot()
            return []  # this node lags behind what the client has; its next look may find more
        return await self._node.in_thread(partial(self._read, here, epoch, txid))

    def _read(self, here: Here, epoch: int, txid: TXID) -> list[LogEntry]:
        database = here.source.database
        place = self._node.log.position_at(database, txid)
        if place is None or place.epoch != epoch:
            raise _need_snapshot()
        entries = self._node.log.commits(database, txid, place.checksum, here.txid)
        if entries is None:
            raise _need_snapshot()
        return entries

    async def _stream(self, request: Request, call: Call, body: bytes) -> Response:
        offset = decode_offset(read_message(body))
        await self._check_session(request, call.database)
        first = await self._after(call.database, offset)
        return Response(200, _HEADERS, stream=self._frames(call.database, offset, first))

    async def _frames(self, database: str, offset: int, entries: list[LogEntry]) -> AsyncIterator[bytes]:
        """Give frames one by one, and wait a while for more."""
        try:
            while True:
                for entry in entries:
                    frames = await self._node.in_thread(partial(_frames_of, entry))
                    yield b"".join(map(frame_message, frames))
                    offset = commit_number(entry.epoch, entry.max_txid) + 1
                if not entries:
                    here = await self._node.here(database)
                    await self._node.store.wait_position(database, here.epoch, here.txid + 1, STREAM_WAIT_S)
                entries = await self._after(database, offset)
        except PandoError as error:
            yield frame_error(error)

    async def _snapshot(self, request: Request, call: Call, body: bytes) -> Response:
        decode_offset(read_message(body))
        await self._check_session(request, call.database)
        here = await self._node.here(call.database)
        image = await self._node.in_thread(partial(self._node.images.newest, here.source, here.txid))
        self._node.sweep_later()
        file = self._node.images.open(image)
        if file is None:
            raise NotReady("the copy of the database that this needs is gone already; try again")
        number = commit_number(image.position.epoch, image.position.txid)
        groups = self._node.pieces(frames_of_image(file, number, lock_pgno(PAGE_SIZE)))
        return Response(200, _HEADERS, stream=_snapshot_messages(groups))

    # -- what they have the primary run --------------------------------------------------------------------------

    async def _execute(self, request: Request, call: Call, body: bytes) -> Response:
        program = decode_program(read_message(body))
        if (passed := await self._passed_on(request, call, program.client, body)) is not None:
            return passed
        outcome = await self._sessions.run(program.client, program.batch, call)
        result, mark = outcome.result, outcome.bookmark
        if not isinstance(result, BatchResult | Failure):
            raise InternalError("a batch gives the results of a batch")
        frame = None if mark is None else commit_number(mark.epoch, mark.txid)
        steps = len(program.batch.steps)
        return await self._node.in_thread(
            lambda: _answer(encode_results(result, steps, is_autocommit=outcome.is_autocommit, frame=frame))
        )

    async def _describe(self, request: Request, call: Call, body: bytes) -> Response:
        client, sql = decode_describe(read_message(body))
        if (passed := await self._passed_on(request, call, client, body)) is not None:
            return passed
        outcome = await self._sessions.run(client, Describe(sql), call)
        if not isinstance(outcome.result, Described | Failure):
            raise InternalError("a describe gives a description")
        return _answer(encode_described(outcome.result))

    async def _disconnect(self, request: Request, call: Call, body: bytes) -> Response:
        client = decode_disconnect(read_message(body))
        if (passed := await self._passed_on(request, call, client, body)) is not None:
            return passed
        self._sessions.disconnect(client, call)
        return _answer(b"")

    async def _stream_exec(self, _request: Request, _call: Call, _body: bytes) -> Response:
        raise GrpcStatus(Code.UNIMPLEMENTED, "StreamExec is for replicas of sqld, which cannot follow this cluster")

    async def _passed_on(self, request: Request, call: Call, client: str, body: bytes) -> Response | None:
        """Have the process answer that has the client's connection; None if it is this one."""
        hop = (SIBLING, b"1")
        if self._node.may_forward(request):
            target = self._node.store.topology.primary_url
            if not target:
                raise PrimaryUnavailable("the primary is not known now; nothing was done")
            hop = (FORWARDED, self._node.store.topology.node.encode())
        elif request.header(SIBLING):
            return None
        else:
            count = sum(name.startswith("web-") for name in read_processes(self._processes_file))
            owner = zlib.crc32(client.encode()) % count if count else self._index
            if owner == self._index:
                return None
            target = str(self._web_socket(owner))
        dropped = {b"host", b"content-length", b"x-namespace-bin", b"connection"}
        headers = [pair for pair in request.headers if pair[0] not in dropped]
        headers += [hop, (b"x-namespace-bin", base64.b64encode(call.database.encode()).rstrip(b"="))]
        status, answer, text = await exchange(target, "POST", request.scope["path"], headers, body, timeout_s=PROXY_S)
        return Response(status, [pair for pair in answer if pair[0] in _ANSWER], text)


def database_of(request: Request) -> str:
    """Give the database that a client of gRPC means; raises InvalidRequest, InvalidDatabaseName.

    libSQL's client takes it from the first label of the host, even of an address. As with SQL over HTTP, a name that
    only comes from there says nothing.
    """
    value = request.header(b"x-namespace-bin")
    if not value:
        return parse_database_name(request.header(b"x-namespace").decode("latin-1"))
    try:
        name = base64.b64decode(value + b"=" * (-len(value) % 4), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise InvalidRequest("x-namespace-bin is not the base64 of a name") from error
    host = request.header(b"host").decode("latin-1")
    if name == host.partition(".")[0].partition(":")[0]:
        return parse_database_name("")
    return parse_database_name(name)


def _session(log_id: str) -> str:
    """Give the token that says that a client knows the log; any node knows it."""
    return str(uuid.uuid5(uuid.UUID(log_id), "session"))


def _need_snapshot() -> GrpcStatus:
    return GrpcStatus(Code.FAILED_PRECONDITION, NEED_SNAPSHOT)


def _answer(message: bytes) -> Response:
    return Response(200, _HEADERS, frame_message(message) + frame_status())


def _frames_of(entry: LogEntry) -> list[bytes]:
    """Give the written frames of a commit."""
    commit = read_commit(entry.payload)
    frames = commit.libsql_frames(commit_number(entry.epoch, entry.max_txid))
    return [*map(encode_frame, frames[:-1]), *(encode_frame(frame, entry.timestamp_ms) for frame in frames[-1:])]


def _frames_message(entries: list[LogEntry]) -> bytes:
    """Write as many commits as a batch has."""
    frames: list[bytes] = []
    for entry in entries:
        frames += _frames_of(entry)
        if len(frames) >= BATCH_FRAMES:
            break
    return encode_frames(frames)


async def _snapshot_messages(groups: AsyncIterator[list[bytes]]) -> AsyncIterator[bytes]:
    try:
        async for group in groups:
            yield b"".join(frame_message(encode_frame(frame)) for frame in group)
    except PandoError as error:
        yield frame_error(error)
    else:
        yield frame_status()
    finally:
        with contextlib.suppress(asyncio.CancelledError):
            await groups.aclose()  # type: ignore[attr-defined]
