"""Clients that keep a local file, over plain HTTP: /info, /export/G and /sync/G/A/B (libSQL's sync, version 2).

A client takes the file at the beginning of a generation and then its frames, piece by piece; at the end it is told of
the next generation, and moves its own frames into the file. There is no way to tell it to begin anew, so what cannot be
answered exactly is refused with 410, on which it stops. Every node answers from its own log; what a replica does not
know, the primary does. Not here: frames and generations (`pando.sql.embedded_generations`, `embedded_log`).
"""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import Final

import msgspec

from pando.api.embedded_node import EmbeddedNode, Here, Lateness
from pando.api.http import JSON, Handler, Request, Response, error_body
from pando.errors import InternalError, InvalidRequest, LocalCopyRefused, NotReady, PandoError, RetryLater
from pando.sql.embedded_frames import PAGE_SIZE
from pando.sql.embedded_generations import (
    GENERATION_NUMBER_MAX,
    Chain,
    Generation,
    Standing,
)
from pando.sql.embedded_images import bytes_of_image
from pando.sql.embedded_log import Look
from pando.sql.embedded_table import GenerationTable

FRAMES_MAX: Final = 1024
"""Frames of one answer, 4 MiB; clients ask for 128."""
GENERATIONS_AT_ONCE: Final = 1000
"""Generations that one question for the newest may come past."""
SHOWN_S: Final = 2.0
"""How long replicas are waited for before a new generation is announced."""
_YEAR_2026_S: Final = 1_767_225_600
_FRAMES: Final = (b"content-type", b"application/octet-stream")
_FILE: Final = (b"content-type", b"application/vnd.sqlite3")


class _Info(msgspec.Struct):
    current_generation: int


class _End(msgspec.Struct):
    generation: int


class EmbeddedV2:
    """The three routes, in one process."""

    def __init__(self, node: EmbeddedNode, table: GenerationTable) -> None:
        self._node = node
        self._table = table
        self._adding = asyncio.Lock()

    def routes(self) -> dict[str, Handler]:
        """Give the handlers by the first name of their paths."""
        return {"info": self._handle, "export": self._handle, "sync": self._handle, "dev": self._handle}

    async def _handle(self, request: Request) -> Response:
        """Answer one request; what refuses it is an error of the route, or of the node."""
        database, parts = split_path(request.scope["path"])
        method = request.scope["method"]
        numbers = _numbers(parts)
        if numbers is None:
            return Response(404, [JSON], error_body(f"there is nothing at {request.scope['path'][:200]}", "NOT_FOUND"))
        if method == "POST" and parts[0] == "sync":
            text = "frames are not taken from clients: let them write through SQL (remote writes), or use /pull-updates"
            return Response(405, [JSON, (b"allow", b"GET")], error_body(text, "METHOD_NOT_ALLOWED"))
        if method not in {"GET", "HEAD"}:
            return Response(405, [JSON, (b"allow", b"GET")], error_body("use GET", "METHOD_NOT_ALLOWED"))
        database = self._node.call(request, database).database
        with self._node.turn():
            if parts[0] == "info":
                return await self._info(request, database)
            if parts[0] == "export":
                return await self._export(request, database, numbers[0])
            return await self._sync(request, database, *numbers)

    # -- /info --

    async def _info(self, request: Request, database: str) -> Response:
        if not self._node.may_forward(request):
            return _json(_Info(await self._newest(database)))
        try:
            return await self._node.forward(request)
        except RetryLater:
            return _json(_Info(await self._newest_known(database)))

    async def _newest_known(self, database: str) -> int:
        """Give the newest generation that this node knows of; raises NotReady."""
        newest = (await self._table.newest(database)).newest_line()
        if newest is None:
            raise NotReady("the primary cannot be asked now, and no client had a local copy of this database before")
        return newest.number

    async def _newest(self, database: str) -> int:
        """Give a generation whose first file can be had: the newest one, or else one that begins now."""
        async with self._adding:
            here = await self._node.here(database)
            chain = await self._table.newest(database)
            newest = chain.newest_line()
            if newest is not None:
                newest = await self._end_of_line(here, newest)
            if newest is not None:
                has_file = partial(self._node.images.exact, database, newest.txid, newest.checksum)
                if await self._node.in_thread(has_file) is not None:
                    return newest.number
            return await self._begin_line(here, await self._table.newest(database))

    async def _end_of_line(self, here: Here, newest: Generation) -> Generation | None:
        """Go on to the generation that is not full yet; None if this history does not come from there."""
        for _ in range(GENERATIONS_AT_ONCE):
            look = await self._look(here, newest, range(1 << 62, 1 << 62))
            if look.standing is Standing.LOST:
                return None
            if not look.has_ended:
                return newest
            newest = await self._add(here, look.following)
        return newest

    async def _begin_line(self, here: Here, chain: Chain) -> int:
        image = await self._node.in_thread(partial(self._node.images.newest, here.source, here.txid))
        self._node.sweep_later()
        here = await self._node.here(here.source.database)
        place = image.position
        number = chain.first_of_new_line(self._node.clock.wall_ms() // 1000 - _YEAR_2026_S)
        if number > GENERATION_NUMBER_MAX:
            raise InternalError("the generations of this database are used up")
        first = Generation(number, here.epoch, place.txid, place.checksum, is_first=True)
        return (await self._add(here, first)).number

    async def _add(self, here: Here, generation: Generation) -> Generation:
        """Write a generation down, once its first commit is where it may be lost no more; gives it as it is there."""
        database = here.source.database
        with contextlib.suppress(PandoError, TimeoutError):
            async with asyncio.timeout(SHOWN_S):
                await self._node.store.wait_shown(database, here.epoch, generation.txid)
        await self._table.add(database, generation)
        found = (await self._table.chain(database, generation.number)).get(generation.number)
        if found != generation:
            raise NotReady(f"generation {generation.number} is being begun by another process; try again")
        return found

    # -- /export/G --

    async def _export(self, request: Request, database: str, number: int) -> Response:
        if self._node.may_forward(request):
            return await self._node.forward(request)
        generation = (await self._table.chain(database, number)).get(number)
        if generation is None:
            raise _unknown(number)
        image = await self._node.in_thread(
            partial(self._node.images.exact, database, generation.txid, generation.checksum)
        )
        file = None if image is None else self._node.images.open(image)
        if file is None:
            raise LocalCopyRefused(
                f"the file at the beginning of generation {number} is not kept any more; ask /info again"
            )
        headers = [_FILE, (b"content-length", b"%d" % (file.pages * PAGE_SIZE))]
        return Response(200, headers, stream=self._node.pieces(bytes_of_image(file)))

    # -- /sync/G/A/B --

    async def _sync(self, request: Request, database: str, number: int, first: int, end: int) -> Response:
        if not 0 < first < end:  # not 400: clients take that for the end of a generation
            text = f"frames from {first} to before {end} were asked for; they are counted from 1"
            return Response(422, [JSON], error_body(text, InvalidRequest.code))
        return await self._frames(request, database, number, range(first, min(end, first + FRAMES_MAX)))

    async def _frames(self, request: Request, database: str, number: int, frames: range) -> Response:
        chain = await self._table.chain(database, number)
        generation = chain.get(number)
        if generation is None:
            return await self._elsewhere(request, _unknown(number))
        here = await self._node.here(database)
        look = await self._look(here, generation, frames)
        if look.standing in {Standing.CAUGHT_UP, Standing.AHEAD}:
            lateness = await self._node.catch_up(database)
            if lateness is Lateness.LATE and self._node.may_forward(request):
                with contextlib.suppress(RetryLater):  # then the client is told what there is here
                    return await self._node.forward(request)
            if lateness is Lateness.CURRENT:
                look = await self._look(await self._node.here(database), generation, frames)
        if look.standing is Standing.FRAMES:
            return Response(200, [_FRAMES], look.frames)
        if look.standing is Standing.CAUGHT_UP:
            return _json(_End(number), 400)
        if look.standing is Standing.PASSES:
            return await self._pass(request, here, chain, look.following)
        return await self._elsewhere(request, _lost(number, look.standing))

    async def _pass(self, request: Request, here: Here, chain: Chain, following: Generation) -> Response:
        """Tell a client that has all of a generation of the next one."""
        known = chain.following(following.number - 1)
        if known is None and self._node.may_forward(request):
            return await self._node.forward(request)
        if known is None:
            async with self._adding:
                known = await self._add(here, following)
            chain = Chain([*chain.by_number.values(), known])
        if (known.txid, known.checksum) != (following.txid, following.checksum):
            return await self._elsewhere(request, _lost(following.number - 1, Standing.LOST))
        return _json(_End(chain.top(known.number)), 400)

    async def _elsewhere(self, request: Request, reason: LocalCopyRefused) -> Response:
        """Let the primary answer; who is the primary refuses."""
        if self._node.may_forward(request):
            return await self._node.forward(request)
        raise reason

    async def _look(self, here: Here, generation: Generation, frames: range) -> Look:
        return await self._node.in_thread(
            partial(self._node.log.look, here.source.database, generation, frames, here.txid)
        )


def _json(value: msgspec.Struct, status: int = 200) -> Response:
    return Response(status, [JSON], msgspec.json.encode(value))


def split_path(path: str) -> tuple[str | None, list[str]]:
    """Give the database that a path names, and the names after it."""
    parts = path.split("/", 6)[1:]
    return (parts[1], parts[2:]) if parts[0] == "dev" and len(parts) > 1 else (None, parts)


def _numbers(parts: list[str]) -> list[int] | None:
    """Give the numbers in the path, None if it is none of these."""
    counts = {"info": 0, "export": 1, "sync": 3}
    if not parts or counts.get(parts[0]) != len(parts) - 1:
        return None
    if not all(part.isascii() and part.isdigit() and len(part) <= 10 for part in parts[1:]):
        return None
    return [int(part) for part in parts[1:]]


def _unknown(number: int) -> LocalCopyRefused:
    return LocalCopyRefused(
        f"generation {number} is not known here: this database has another history (it was restored or replaced), or "
        "it is too long ago; delete the local replica (the file, and those beside it) and sync again"
    )


def _lost(number: int, standing: Standing) -> LocalCopyRefused:
    why = "the client has commits that this history does not" if standing is Standing.AHEAD else "its log is gone"
    return LocalCopyRefused(
        f"generation {number} cannot be gone on with: {why}; delete the local replica (the file, and those beside it) "
        "and sync again"
    )
