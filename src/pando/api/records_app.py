"""The records API: `/api/...` in PocketBase's terms, on any node.

Reads, log-ins and what else needs no write are answered here. Whatever writes is passed to the primary as it is, and
the answer is held back until this node shows what was written, since PocketBase's clients carry no bookmarks. Not here:
what the routes do (`pando.api.records_routes`, `pando.records`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from pando.api.client_ip import peer_of, sealed, told_peer
from pando.api.http import ClientGone, Receive, Request, Response, Scope, Send, send_response
from pando.api.records_guard import STREAM_ROUTE, WITH_PASSWORD, admit, with_body
from pando.api.records_http import ApiRequest, envelope, is_untold, read_request
from pando.errors import InternalError, NotReady, OutcomeUnknown, PandoError, PrimaryUnavailable
from pando.log import EventLog
from pando.records.desk import Asking, Desk
from pando.records.engine import Basis
from pando.records.problems import ApiError, not_found
from pando.records.rules import BrokenRule

Route = Callable[[Desk, Asking, ApiRequest], Awaitable[Response]]
Forward = Callable[[ApiRequest], Awaitable[Response]]
"""Passes a request to the primary, and waits until this node shows what it wrote."""


@dataclass(frozen=True, slots=True)
class Reuse:
    """While what was read holds, and the token that was shown, the same request has the same answer."""

    basis: Basis
    expires_ms: int | None


class RecordsApp:
    """ASGI application for `/api/`. `routes` gives the route of a request, and whether it writes."""

    def __init__(self, desk: Desk, router: Router, forward: Forward, log: EventLog) -> None:
        self._desk = desk
        self._router = router
        self._forward = forward
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            response = await self.respond(Request(scope, receive))
        except ClientGone:
            return
        except Exception as error:
            self._log.emit("request.failed", method=scope["method"], path=scope["path"], error=repr(error))
            await send_response(envelope(InternalError("Something went wrong while processing your request")), send)
            raise
        await send_response(response, send, is_head=scope["method"] == "HEAD")

    async def respond(self, request: Request) -> Response:
        """Answer one request; what the caller did wrong is an answer too. Raises what is a bug."""
        return (await self.respond_for(request))[0]

    async def respond_for(self, request: Request) -> tuple[Response, Reuse | None]:
        """The same; with it how long the answer stays right, if it is one of records that can be given again."""
        try:
            response, asking = await self._answer(request)
        except PandoError as error:
            reason = error.__cause__ if isinstance(error, BrokenRule) else error if is_untold(error) else None
            if reason is not None:
                scope = request.scope
                self._log.emit("request.failed", method=scope["method"], path=scope["path"], error=repr(reason))
            return envelope(error), None
        if asking is None or asking.notes.is_volatile or asking.notes.reading is None:
            return response, None
        basis = asking.notes.reading.basis()
        return response, None if basis is None else Reuse(basis, asking.notes.expires_ms)

    def is_right_still(self, reuse: Reuse) -> bool:
        """Tell whether nothing that an answer was made of has changed."""
        engine = self._desk.engine
        if not engine.holds(reuse.basis) or (not engine.is_primary and engine.is_late):
            return False
        return reuse.expires_ms is None or self._desk.clock.wall_ms() < reuse.expires_ms

    async def _answer(self, request: Request) -> tuple[Response, Asking | None]:
        asked, is_told = told_peer(read_request(request), self._desk.guard.peers, self._desk.clock)
        found = self._router.find(asked)
        if found is None:
            with contextlib.suppress(NotReady):
                await self._admitted(asked, "", is_counted=True)
            raise not_found("The requested resource wasn't found.")
        is_of_records = asked.method == "GET" and asked.segments[2:3] == ("records",)
        is_replica = not self._desk.engine.is_primary
        if is_replica:
            if found.writes:
                return await self._passed_on(asked), None
            if is_of_records and self._desk.engine.is_late:
                with contextlib.suppress(PrimaryUnavailable, OutcomeUnknown):  # old data are better than none
                    return await self._passed_on(asked), None
            if found.pattern == WITH_PASSWORD:
                asked = await with_body(asked)
                passed = await self._sign_in_elsewhere(asked)
                if passed is not None:
                    return passed, None
        asking = await self._admitted(asked, found.pattern, is_counted=not is_told or found.pattern != STREAM_ROUTE)
        if found.pattern == STREAM_ROUTE:
            asked = self._sealed(asked)
        try:
            response = await found.route(self._desk, asking, asked)
        except ApiError as error:
            if not is_replica or found.pattern != WITH_PASSWORD or error.status != 400:
                raise
            return await self._sign_in_again(asked, error), None
        if found.writes and (position := self._desk.engine.position) is not None:
            headers = [*response.headers, (b"pando-bookmark", str(position).encode())]
            return Response(response.status, headers, response.body), None
        return response, asking if is_of_records else None

    async def _admitted(self, asked: ApiRequest, pattern: str, *, is_counted: bool) -> Asking:
        """Find out who asks, and whether he may ask from there, now. Raises ApiError 403, 429."""
        asking = await self._asking(asked)
        admit(self._desk, asking, asked, pattern, is_counted=is_counted)
        return asking

    async def _asking(self, asked: ApiRequest) -> Asking:
        return await self._desk.asking(
            asked.authorization,
            method=asked.method,
            query=asked.query,
            headers=asked.headers,
            peer=peer_of(asked.request.scope),
        )

    async def _passed_on(self, asked: ApiRequest) -> Response:
        return await self._forward(self._sealed(asked))

    def _sealed(self, asked: ApiRequest) -> ApiRequest:
        return sealed(asked, self._desk.guard.peers, self._desk.clock)

    async def _sign_in_again(self, asked: ApiRequest, refused: ApiError) -> Response:
        """Let the primary decide whom this node does not know, or knows by another password: it may be behind."""
        try:
            return await self._passed_on(asked)
        except (PrimaryUnavailable, OutcomeUnknown):
            raise refused from None

    async def _sign_in_elsewhere(self, asked: ApiRequest) -> Response | None:
        """Let the primary sign somebody in where tries are limited, so that they are counted in one place.

        None: it is to be done here.
        """
        asking = await self._asking(asked)
        is_limited = admit(self._desk, asking, asked, WITH_PASSWORD, is_counted=False)
        if not is_limited and not self._desk.engine.is_late:
            return None
        try:
            return await self._passed_on(asked)
        except (PrimaryUnavailable, OutcomeUnknown):  # then the tries are counted on each node
            return None


@dataclass(frozen=True, slots=True)
class Found:
    """What answers a request, whether it needs the primary, and by which pattern it was found."""

    route: Route
    writes: bool
    pattern: str


class Router:
    """Finds routes by method and path segments; `*` stands for any one segment."""

    def __init__(self, routes: Mapping[str, Route], *, writes: frozenset[str]) -> None:
        """Keys are like `GET collections/*/records/*`; `writes` are those that need the primary."""
        self._tree: dict[str, dict[tuple[str, ...], Found]] = {}
        for key, route in routes.items():
            method, _, path = key.partition(" ")
            self._tree.setdefault(method, {})[tuple(path.split("/"))] = Found(route, key in writes, key)

    def find(self, asked: ApiRequest) -> Found | None:
        """Give what answers; None if there is nothing."""
        method = "GET" if asked.method == "HEAD" else asked.method
        paths = self._tree.get(method, {})
        segments = asked.segments
        found = paths.get(segments)
        if found is not None or len(segments) < 2:
            return found
        for masked in _masks(segments):
            found = paths.get(masked)
            if found is not None:
                return found
        return None


def _masks(segments: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Give the patterns that a path may have, the more literal first."""
    count = len(segments)
    found = [(segments[0], "*", *segments[2:])]
    if count >= 3:
        found.append((*segments[:2], "*", *segments[3:]))
    if count >= 4:
        found.append((segments[0], "*", segments[2], "*", *segments[4:]))
    if count == 4:
        found.append((segments[0], "*", "*", "*"))
    return found
