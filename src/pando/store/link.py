"""A link: messages in frames over a byte stream, between processes of a node and between nodes.

A frame is a 4-byte big-endian length and a msgpack array of messages; what is sent in one turn of the event loop
travels as one frame. `Link` is an asyncio protocol: hand it to `loop.create_unix_server`, `create_connection` and the
like. Not here: who is at the other end (`pando.store.handshake`), what the messages mean, reconnecting.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, cast

import msgspec

from pando import limits

HEADER_BYTES: Final = 4
_read_length = struct.Struct(">I").unpack_from
_encode = msgspec.msgpack.Encoder().encode
_DECODE_ERRORS = (msgspec.MsgspecError, ValueError, RecursionError, OverflowError)
_JOIN_BYTES_MAX: Final = 64 * limits.KIB
"""Frames up to this size are written as one joined piece (a copy is cheaper than a second buffer)."""
WRITE_HIGH_WATER_BYTES: Final = 4 * limits.MIB
"""Unsent bytes from which a link is congested: a few catch-up batches, so that the network never waits for us."""

OnMessages = Callable[[list[Any]], None]
OnClosed = Callable[["LinkEnd"], None]
Decoder = msgspec.msgpack.Decoder[list[Any]]


class LinkEndKind(StrEnum):
    """How a link ended."""

    CLEAN = "clean"
    """The other side closed between two frames."""
    TORN = "torn"
    """The stream ended within a frame."""
    GARBAGE = "garbage"
    """A frame could not be decoded."""
    TOO_LARGE = "too_large"
    """A frame over the limit was announced or would have been sent."""
    BROKEN = "broken"
    """The operating system reported an error."""
    REFUSED = "refused"
    """The handshake failed."""
    LOCAL = "local"
    """This side closed."""


@dataclass(frozen=True, slots=True)
class LinkEnd:
    """Why a link is no more."""

    kind: LinkEndKind
    detail: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}" if self.detail else str(self.kind)


def make_decoder(union: Any) -> Decoder:  # noqa: ANN401 - a typing special form has no better type
    """Make the decoder for frames whose messages belong to a tagged union."""
    return msgspec.msgpack.Decoder(list[union])


def encode_frame(messages: list[Any]) -> bytes:
    """Give one whole frame; for tests and for the first bytes of a stream."""
    payload = _encode(messages)
    return len(payload).to_bytes(HEADER_BYTES, "big") + payload


class Link(asyncio.Protocol):
    """One end of a link. Callbacks run on the event loop and must not block; `on_closed` is called exactly once.

    The owner may replace `decoder`, `on_messages`, `on_closed` and `frame_bytes_max` at any time, also from within
    `on_messages`: what comes in later frames is treated the new way. Of too many unsent bytes the owner is told by
    `is_congested`; it must then stop sending (or `await drain()`), or the link is closed at `LINK_BACKLOG_BYTES_MAX`.
    """

    __slots__ = (
        "_end",
        "_flush_is_due",
        "_is_reported",
        "_loop",
        "_outbox",
        "_partial",
        "_partial_bytes_needed",
        "_transport",
        "_writable",
        "decoder",
        "frame_bytes_max",
        "is_congested",
        "on_closed",
        "on_connected",
        "on_drained",
        "on_messages",
        "replace_oversized",
    )

    def __init__(
        self,
        decoder: Decoder,
        on_messages: OnMessages,
        on_closed: OnClosed,
        *,
        on_connected: Callable[[Link], None] | None = None,
        replace_oversized: Callable[[Any], Any] | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """`replace_oversized` may turn a message that does not fit a frame into a smaller one, such as an error."""
        self.decoder = decoder
        self.on_messages = on_messages
        self.on_closed = on_closed
        self.on_connected = on_connected
        self.on_drained: Callable[[], None] | None = None
        self.replace_oversized = replace_oversized
        self.frame_bytes_max = limits.LINK_FRAME_BYTES_MAX
        self.is_congested = False
        self._loop = loop or asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._outbox: list[Any] = []
        self._flush_is_due = False
        self._partial = bytearray()
        self._partial_bytes_needed = HEADER_BYTES
        self._writable: asyncio.Event | None = None
        self._end: LinkEnd | None = None
        self._is_reported = False

    # -- state --

    @property
    def is_open(self) -> bool:
        """Whether messages can be sent now."""
        return self._transport is not None and self._end is None

    @property
    def unsent_bytes(self) -> int:
        """Bytes that the transport holds and the kernel has not taken yet."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    # -- sending --

    def send(self, message: Any) -> None:  # noqa: ANN401 - any message of the union that the other side decodes
        """Queue a message; all of one loop turn leave as one frame.

        On a closed link it is dropped: `on_closed` tells.
        """
        if self._end is not None:
            return
        self._outbox.append(message)
        if not self._flush_is_due:
            self._flush_is_due = True
            self._loop.call_soon(self.flush_now)

    def flush_now(self) -> None:
        """Give what is queued to the transport now instead of at the end of the loop turn."""
        self._flush_is_due = False
        outbox = self._outbox
        if not outbox or self._end is not None or self._transport is None:
            return
        self._outbox = []
        self._write_frame(outbox)
        if self.is_congested and self.unsent_bytes > limits.LINK_BACKLOG_BYTES_MAX:
            self._fail(LinkEndKind.TOO_LARGE, f"the other side does not read: {self.unsent_bytes} bytes are waiting")

    def _write_frame(self, messages: list[Any]) -> None:
        payload = _encode(messages)
        size = len(payload)
        if size > self.frame_bytes_max:
            self._write_in_parts(messages, size)
            return
        transport = cast("asyncio.Transport", self._transport)  # flush_now has looked
        header = size.to_bytes(HEADER_BYTES, "big")
        if size <= _JOIN_BYTES_MAX:
            transport.write(header + payload)
        else:
            transport.writelines((header, payload))

    def _write_in_parts(self, messages: list[Any], size: int) -> None:
        if len(messages) > 1:
            middle = len(messages) // 2
            self._write_frame(messages[:middle])
            if self._end is None:
                self._write_frame(messages[middle:])
            return
        replacement = self.replace_oversized(messages[0]) if self.replace_oversized is not None else None
        if replacement is not None and len(_encode([replacement])) <= self.frame_bytes_max:
            self._write_frame([replacement])
            return
        name = type(messages[0]).__name__
        self._fail(LinkEndKind.TOO_LARGE, f"a {name} of {size} bytes does not fit a frame of {self.frame_bytes_max}")

    def send_first(self, message: Any) -> None:  # noqa: ANN401 - as send
        """Send a message now, in a frame of its own, before what is queued (the end of a handshake)."""
        if self.is_open:
            self._write_frame([message])

    def write_raw(self, data: bytes) -> None:
        """Write bytes that are no frame: the HTTP answer before the first frame of an adopted connection."""
        if self.is_open and self._transport is not None:
            self._transport.write(data)

    async def drain(self) -> None:
        """Wait until the link is not congested any more, or closed (see `is_open`)."""
        if not self.is_congested or self._end is not None:
            return
        if self._writable is None:
            self._writable = asyncio.Event()
        await self._writable.wait()

    # -- receiving --

    def pause_reading(self) -> None:
        """Take no more from the stream for now; up to one chunk that was read already still arrives."""
        if self.is_open and self._transport is not None and self._transport.is_reading():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Go on after `pause_reading`."""
        if self.is_open and self._transport is not None and not self._transport.is_reading():
            self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        """Take bytes from the transport."""
        if not self._partial:
            self._consume(data)
            return
        self._partial += data
        if len(self._partial) >= self._partial_bytes_needed:
            joined, self._partial = self._partial, bytearray()
            self._consume(joined)

    def _consume(self, data: bytes | bytearray) -> None:
        view = memoryview(data)
        at, end = 0, len(data)
        needed = HEADER_BYTES
        while self._end is None and end - at >= HEADER_BYTES:
            (size,) = _read_length(data, at)
            if size > self.frame_bytes_max:
                self._fail(
                    LinkEndKind.TOO_LARGE, f"a frame of {size} bytes was announced, {self.frame_bytes_max} allowed"
                )
                return
            stop = at + HEADER_BYTES + size
            if stop > end:
                needed = HEADER_BYTES + size
                break
            try:
                messages = self.decoder.decode(view[at + HEADER_BYTES : stop])
            except _DECODE_ERRORS as error:
                self._fail(LinkEndKind.GARBAGE, f"a frame of {size} bytes cannot be read: {error}")
                return
            at = stop
            needed = HEADER_BYTES
            self.on_messages(messages)
        if at < end and self._end is None:
            self._partial = bytearray(view[at:])
            self._partial_bytes_needed = needed

    # -- life --

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start; called by the event loop."""
        stream = cast("asyncio.Transport", transport)  # uvloop's transports do not inherit from asyncio's
        self._transport = stream
        stream.set_write_buffer_limits(high=WRITE_HIGH_WATER_BYTES)
        if self._outbox:
            self.flush_now()
        if self.on_connected is not None:
            self.on_connected(self)

    def pause_writing(self) -> None:
        """Called by the transport when too much is unsent."""
        self.is_congested = True
        if self._writable is not None:
            self._writable.clear()

    def resume_writing(self) -> None:
        """Called by the transport when what was unsent is gone."""
        self.is_congested = False
        if self._writable is not None:
            self._writable.set()
        if self.on_drained is not None:
            self.on_drained()

    def eof_received(self) -> bool:
        """The other side will send no more; we close too."""
        if self._end is None:
            self._end = self._end_of_stream()
        return False

    def _end_of_stream(self) -> LinkEnd:
        if self._partial:
            got, needed = len(self._partial), self._partial_bytes_needed
            return LinkEnd(LinkEndKind.TORN, f"the stream ended after {got} of {needed} bytes of a frame")
        return LinkEnd(LinkEndKind.CLEAN, "")

    def connection_lost(self, error: Exception | None) -> None:
        """The stream is gone; tells the owner."""
        if self._end is None:
            self._end = LinkEnd(LinkEndKind.BROKEN, str(error)) if error is not None else self._end_of_stream()
        self._report()

    def close(self, detail: str = "", kind: LinkEndKind = LinkEndKind.LOCAL) -> None:
        """Send what is queued, then close. `on_closed` follows in a later loop turn."""
        if self._end is not None:
            return
        self.flush_now()
        self._end = LinkEnd(kind, detail)
        if self._transport is not None:
            self._transport.close()
        else:
            self._report()

    def abort(self, detail: str) -> None:
        """Close at once, without sending what is queued: the other side does not answer any more."""
        self._fail(LinkEndKind.BROKEN, detail)

    def _fail(self, kind: LinkEndKind, detail: str) -> None:
        if self._end is not None:
            return
        self._end = LinkEnd(kind, detail)
        self._outbox.clear()
        if self._transport is not None:
            self._transport.abort()

    def _report(self) -> None:
        if self._is_reported or self._end is None:
            return
        self._is_reported = True
        self._outbox.clear()
        self._partial = bytearray()
        self.is_congested = False
        if self._writable is not None:
            self._writable.set()
        self.on_closed(self._end)
