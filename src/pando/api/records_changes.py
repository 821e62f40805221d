"""The routes of the plain change feed, for superusers: `GET /api/changes`, and consumer groups below it.

    GET    changes?since=7                  from a cursor on, from now on without one; SSE or NDJSON by `Accept`
    GET    changes/groups                   consumer groups
    POST   changes/groups/*/claim           {"member","max","leaseSeconds","waitSeconds","since"}
    POST   changes/groups/*/ack             {"member","cursors"}
    POST   changes/groups/*/extend          {"member","cursors","leaseSeconds"}
    POST   changes/groups/*/release         {"member"}
    DELETE changes/groups/*

The feed is read at any node; a group lives on the primary, each step of it is a write. Not here: the feed itself
(`pando.records.realtime.feed`), what a step does (`groups`, `pando.records.realtime.consuming`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any, Final, TypeVar

import msgspec

from pando import limits
from pando.api.http import Receive, Response
from pando.api.records_app import Route
from pando.api.records_http import NO_CONTENT, SECURITY, ApiRequest, raw_answer
from pando.api.records_routes import only_superusers
from pando.errors import NotReady, Overloaded, PandoError
from pando.records.desk import Asking, Desk
from pando.records.problems import ApiError, Problem, ValidationFailed
from pando.records.realtime.changes import Change, Cursor
from pando.records.realtime.consuming import Consumers
from pando.records.realtime.feed import CursorGone, Feed
from pando.records.realtime.frames import COMMENT, EMPTY_LINE, SSE_HEADERS, change_frame, change_line
from pando.records.realtime.pump import Commits, follow
from pando.records.realtime.redaction import redacted

QUIET_S: Final = 15.0
"""After so long without a change something empty is sent, so that proxies keep the connection."""
BODY_BYTES_MAX: Final = 256 * 1024
_SSE: Final = b"text/event-stream"
_NDJSON_HEADERS: Final = (
    (b"content-type", b"application/x-ndjson"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
)
T = TypeVar("T")


class ChangesRoutes:
    """The plain feed of one web process."""

    def __init__(self, desk: Desk, commits: Commits) -> None:
        self._desk = desk
        self._commits = commits
        self._feed = Feed(desk.engine.reads())
        self._consumers = Consumers(desk, commits)
        self._readers: set[asyncio.Task[None]] = set()
        self._is_stopped = False

    @property
    def routes(self) -> Mapping[str, Route]:
        """The routes, by method and path."""
        return {
            "GET changes": self.read,
            "GET changes/groups": self.groups,
            "DELETE changes/groups/*": self.remove,
            "POST changes/groups/*/claim": self.claim,
            "POST changes/groups/*/ack": self.acknowledge,
            "POST changes/groups/*/extend": self.extend,
            "POST changes/groups/*/release": self.release,
        }

    def stop(self) -> None:
        """End all readers; new ones are refused."""
        self._is_stopped = True
        for reader in self._readers:
            reader.cancel()

    # -- the feed --

    async def read(self, desk: Desk, asking: Asking, asked: ApiRequest) -> Response:
        """GET changes."""
        only_superusers(asking)
        is_sse = _SSE in asked.request.header(b"accept")
        headers = [*(SSE_HEADERS if is_sse else _NDJSON_HEADERS), *SECURITY]
        after = _since(asked)
        may_be_ahead = after is not None and not desk.engine.is_primary
        if after is None:
            after = await self._feed.newest()
        elif not may_be_ahead or after <= await self._feed.newest():
            await self._feed.check(after)
        if asked.method == "HEAD":
            return Response(200, headers)
        if self._is_stopped:
            raise NotReady("the process is being stopped; try again")
        if len(self._readers) >= limits.FEED_READERS_MAX:
            raise Overloaded(f"this process has {len(self._readers)} readers of the feed, which is the limit")
        batches = follow(self._feed, self._commits, after, quiet_s=QUIET_S, may_be_ahead=may_be_ahead)
        return Response(200, headers, stream=self._chunks(asked, batches, is_sse=is_sse))

    async def _chunks(
        self, asked: ApiRequest, batches: AsyncGenerator[list[Change], None], *, is_sse: bool
    ) -> AsyncGenerator[bytes, None]:
        """Give the bytes of the feed until the reader is gone, is no superuser any more, or has had it for long."""
        leaving = asyncio.get_running_loop().create_task(_until_gone(asked.request.receive))
        self._readers.add(leaving)
        quiet = COMMENT if is_sse else EMPTY_LINE
        ends_at = self._desk.clock.monotonic() + limits.REALTIME_STREAM_S
        try:
            yield quiet  # the answer begins at once
            while self._desk.clock.monotonic() < ends_at:
                changes = await _next(batches, leaving)
                if changes is None:
                    return
                shown = await self._shown(asked, changes)
                if shown is None:
                    return
                yield b"".join(map(change_frame if is_sse else change_line, shown)) or quiet
        finally:
            leaving.cancel()
            self._readers.discard(leaving)
            await batches.aclose()

    async def _shown(self, asked: ApiRequest, changes: list[Change]) -> list[Change] | None:
        """Give changes as they may be told; None if who asked may not hear of them any more."""
        try:
            asking = await self._desk.asking(
                asked.authorization, method=asked.method, query=asked.query, headers=asked.headers
            )
        except PandoError:
            return None
        if not asking.is_superuser:
            return None
        return [redacted(change, asking.schema.find(change.table)) for change in changes]

    # -- consumer groups --

    async def groups(self, _desk: Desk, asking: Asking, _asked: ApiRequest) -> Response:
        """GET changes/groups."""
        only_superusers(asking)
        return raw_answer(msgspec.json.encode({"items": await self._consumers.list_all()}))

    async def remove(self, _desk: Desk, asking: Asking, asked: ApiRequest) -> Response:
        """DELETE changes/groups/*."""
        only_superusers(asking)
        await self._consumers.remove(asked.segments[2])
        return NO_CONTENT

    async def claim(self, _desk: Desk, asking: Asking, asked: ApiRequest) -> Response:
        """POST changes/groups/*/claim."""
        only_superusers(asking)
        body = await asked.json(BODY_BYTES_MAX)
        claimed = await self._consumers.claim(
            asked.segments[2],
            _text(body, "member"),
            most=_whole(body, "max", 100, 1, limits.CHANGES_BATCH_MAX),
            lease_s=_whole(body, "leaseSeconds", 60, 1, limits.CONSUMER_LEASE_S_MAX),
            wait_s=_whole(body, "waitSeconds", 0, 0, int(limits.CLAIM_WAIT_S)),
            since=_whole(body, "since", -1, 0, 1 << 53),
        )
        return raw_answer(msgspec.json.encode(claimed))

    async def acknowledge(self, _desk: Desk, asking: Asking, asked: ApiRequest) -> Response:
        """POST changes/groups/*/ack."""
        only_superusers(asking)
        body = await asked.json(BODY_BYTES_MAX)
        missing = await self._consumers.acknowledge(asked.segments[2], _text(body, "member"), _cursors(body))
        return raw_answer(msgspec.json.encode({"missing": missing}))

    async def extend(self, _desk: Desk, asking: Asking, asked: ApiRequest) -> Response:
        """POST changes/groups/*/extend."""
        only_superusers(asking)
        body = await asked.json(BODY_BYTES_MAX)
        lease_s = _whole(body, "leaseSeconds", 60, 1, limits.CONSUMER_LEASE_S_MAX)
        missing = await self._consumers.extend(asked.segments[2], _text(body, "member"), _cursors(body), lease_s)
        return raw_answer(msgspec.json.encode({"missing": missing}))

    async def release(self, _desk: Desk, asking: Asking, asked: ApiRequest) -> Response:
        """POST changes/groups/*/release."""
        only_superusers(asking)
        body = await asked.json(BODY_BYTES_MAX)
        await self._consumers.release(asked.segments[2], _text(body, "member"))
        return NO_CONTENT


CHANGES_WRITES: Final = frozenset(
    {
        "GET changes/groups",
        "DELETE changes/groups/*",
        "POST changes/groups/*/claim",
        "POST changes/groups/*/ack",
        "POST changes/groups/*/extend",
        "POST changes/groups/*/release",
    }
)
"""What is answered by the primary."""


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue


async def _next(items: AsyncIterator[T], ending: asyncio.Task[None]) -> T | None:
    """Give the next item; None when `ending` is done first, or the items cannot go on."""
    coming = asyncio.ensure_future(anext(items))
    try:
        await asyncio.wait({coming, ending}, return_when=asyncio.FIRST_COMPLETED)
        if not coming.done():
            return None
        return coming.result()
    except (CursorGone, StopAsyncIteration):
        return None
    finally:
        if not coming.done():
            coming.cancel()
            await asyncio.wait({coming})


def _since(asked: ApiRequest) -> Cursor | None:
    """Give the cursor to go on from: what a client that comes back has seen, else `since`, None for neither."""
    text = asked.headers.get("last_event_id") or asked.query.get("since", "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 16):
        problem = Problem("validation_invalid_value", "A cursor is a whole number.")
        raise ValidationFailed({"since": problem})
    return int(text)


def _text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name, "")
    return value if isinstance(value, str) else ""


def _whole(body: Mapping[str, Any], name: str, default: int, least: int, most: int) -> int:
    """Read a whole number. Raises ValidationFailed."""
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        problem = Problem("validation_invalid_value", f"A whole number from {least} to {most}.")
        raise ValidationFailed({name: problem})
    return value


def _cursors(body: Mapping[str, Any]) -> list[Cursor]:
    value = body.get("cursors")
    if not isinstance(value, list) or not all(type(each) is int for each in value):
        raise ValidationFailed({"cursors": Problem("validation_invalid_value", "A list of cursors is needed.")})
    if len(value) > limits.CONSUMER_IN_FLIGHT_MAX:
        raise ApiError(400, f"A member has at most {limits.CONSUMER_IN_FLIGHT_MAX} changes.")
    return value
