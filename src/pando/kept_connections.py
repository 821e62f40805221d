"""Kept HTTP connections of aiohttp's client: one that the other end has ended is never written to, noticed or not.

The end of a connection is in the kernel before the loop has told of it. A request that is sent on such a connection is
lost, and nobody can say whether it had been done. Not here: what follows from a failure (`pando.node.front_proxy`,
`pando.client.judging`); importing this imports aiohttp.
"""

from __future__ import annotations

import asyncio
import select
from typing import Any

import aiohttp


class Ended(aiohttp.ClientError):
    """The connection had ended before anything of the request was sent."""


class LookingConnector(aiohttp.TCPConnector):
    """Gives no kept connection that has ended."""

    async def _get(self, key: Any, traces: Any) -> Any:  # noqa: ANN401 - as aiohttp has it
        while (found := await super()._get(key, traces)) is not None:
            if not has_something_to_read(found.transport):
                return found
            found.close()
        return None


class LookingRequest(aiohttp.ClientRequest):
    """A request with a body, which is written in a later turn of the loop with the header: it looks once more."""

    async def write_bytes(self, writer: Any, conn: Any, *options: Any) -> None:  # noqa: ANN401 - as aiohttp has it
        """Write, unless the connection has ended; then nothing was written."""
        if has_something_to_read(conn.transport):
            conn.protocol.set_exception(Ended("the connection had ended before anything was sent"))
            return
        await super().write_bytes(writer, conn, *options)


def has_something_to_read(transport: asyncio.Transport | None) -> bool:
    """Tell whether bytes or an end came on a connection on which nothing is expected."""
    if transport is None or transport.is_closing():
        return True
    descriptor = transport.get_extra_info("socket").fileno()
    if not hasattr(
        select, "poll"
    ):  # select() cannot look at descriptors of 1024 and more, but some systems have no other
        return bool(select.select([descriptor], [], [], 0)[0])
    looking = select.poll()
    looking.register(descriptor, select.POLLIN)
    return bool(looking.poll(0))
