"""A link for a process without an event loop: the same frames as `pando.store.link`, on a blocking socket.

Reads take what is there and never wait; writes wait for the other side, with a limit. Not here: when to read (the
caller polls `fileno`), reconnecting.
"""

from __future__ import annotations

import select
import socket
import struct
from typing import Any, Final

import msgspec

from pando import limits
from pando.errors import NotReady
from pando.store.handshake import HANDSHAKE_DECODER, Dialer
from pando.store.link import HEADER_BYTES, Decoder, encode_frame

_READ_BYTES: Final = 256 * limits.KIB
_SEND_LIMIT_S: Final = 10.0
"""How long the other side may leave a frame unread before it is taken for dead."""


class LinkLost(NotReady):
    """The link is no more; make another one."""

    code = "LINK_LOST"


class BlockingLink:
    """One end of a link on a connected stream socket; every method raises LinkLost once it is broken."""

    def __init__(self, sock: socket.socket, decoder: Decoder) -> None:
        self._socket = sock
        # Not `settimeout`: with it, Python waits before it reads, whatever the flags say.
        self._socket.settimeout(None)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(_SEND_LIMIT_S), 0))
        self._partial = bytearray()
        self.decoder = decoder

    def fileno(self) -> int:
        """The descriptor to poll."""
        return self._socket.fileno()

    def send(self, messages: list[Any]) -> None:
        """Send messages as one frame."""
        try:
            self._socket.sendall(encode_frame(messages))
        except OSError as error:
            raise LinkLost(f"the store does not take messages: {error}") from error

    def receive(self, frames_max: int = 1 << 30) -> list[Any]:
        """Give all messages that have come in whole, of at most `frames_max` frames; does not wait.

        Frames over that stay here, and polling does not tell of them: ask again before.
        """
        try:
            data = self._socket.recv(_READ_BYTES, socket.MSG_DONTWAIT)
        except (BlockingIOError, InterruptedError):
            return self._decoded(frames_max) if self._partial else []
        except OSError as error:
            raise LinkLost(f"the link to the store broke: {error}") from error
        self._partial += data
        messages = self._decoded(frames_max)
        if not data and not messages:
            raise LinkLost("the other side closed the link")
        return messages

    def _decoded(self, frames_max: int) -> list[Any]:
        messages: list[Any] = []
        buffer = self._partial
        at = 0
        while len(buffer) - at >= HEADER_BYTES and frames_max > 0:
            size = int.from_bytes(buffer[at : at + HEADER_BYTES], "big")
            if size > limits.LINK_FRAME_BYTES_MAX:
                raise LinkLost(f"a frame of {size} bytes was announced, {limits.LINK_FRAME_BYTES_MAX} are allowed")
            end = at + HEADER_BYTES + size
            if end > len(buffer):
                break
            try:
                messages += self.decoder.decode(buffer[at + HEADER_BYTES : end])
            except (msgspec.MsgspecError, ValueError, RecursionError, OverflowError) as error:
                raise LinkLost(f"a frame of {size} bytes cannot be read: {error}") from error
            at = end
            frames_max -= 1
        del buffer[:at]
        return messages

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def dial(path: str, dialer: Dialer, decoder: Decoder) -> BlockingLink:
    """Connect to a unix socket and shake hands; raises LinkLost, Unauthorized, NotReady, InvalidRequest."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(limits.LINK_AUTH_S)
        sock.connect(path)
        link = BlockingLink(sock, HANDSHAKE_DECODER)
        link.send([dialer.hello])
        _shake_hands(link, dialer)
    except OSError as error:
        sock.close()
        raise LinkLost(f"the store process of this node does not answer: {error}") from error
    except BaseException:
        sock.close()
        raise
    link.decoder = decoder
    return link


def _shake_hands(link: BlockingLink, dialer: Dialer) -> None:
    """Answer until welcome; what the other side says right after it stays in the link."""
    poll = select.poll()
    poll.register(link.fileno(), select.POLLIN)
    while dialer.peer is None:
        if not poll.poll(round(limits.LINK_AUTH_S * 1000)):
            raise LinkLost("the other side did not answer the handshake in time")
        for message in link.receive(frames_max=1):
            answer = dialer.receive(message)
            if answer is not None:
                link.send([answer])
