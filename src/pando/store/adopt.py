"""Passing an accepted HTTP connection from a web process to the store of the same node (SCM_RIGHTS).

The store listens on a unix datagram socket; a web process sends one datagram per connection: the bytes it has read
already, with the descriptor. A datagram is whole or not there, needs no connection, and what was not picked up when
the store dies is closed by the kernel, so the other node sees its link end and tries again. Not here: the handshake
(`link_open`).
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final

from pando import limits
from pando.errors import NotReady, invariant

HANDOVER_BYTES_MAX: Final = 16 * limits.KIB
"""Most bytes that come along with a connection: a request header and the first frames of a handshake."""
_CLOEXEC: Final = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
_ANCILLARY_BYTES: Final = socket.CMSG_SPACE(4 * array.array("i").itemsize)
_BATCH: Final = 64
"""Connections taken in one turn of the loop."""

OnSocket = Callable[[socket.socket, bytes], None]


class Giver:
    """The web process's side. One per process; a store that was restarted is found again at the same path."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def give(self, descriptor: int, already_read: bytes) -> None:
        """Hand over a connection; the caller then closes its own descriptor. Raises NotReady: no store is there."""
        invariant(0 < len(already_read) <= HANDOVER_BYTES_MAX, "a handover is bounded", size=len(already_read))
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))
        try:
            self._socket.sendmsg([already_read], [rights], 0, self._path)
        except OSError as error:
            raise NotReady(f"the store process of this node does not take links now: {error.strerror}") from error

    def close(self) -> None:
        """Close our socket."""
        self._socket.close()


class Taker:
    """The store's side: calls `on_socket(socket, bytes already read)` on the event loop for each connection."""

    def __init__(self, path: str, on_socket: OnSocket) -> None:
        self._path = path
        self._on_socket = on_socket
        self._socket: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Bind the socket; a stale one of a dead store is replaced (the caller holds the store's lock)."""
        with contextlib.suppress(FileNotFoundError):
            Path(self._path).unlink()
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        listening.setblocking(False)
        listening.bind(self._path)
        self._socket = listening
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(listening.fileno(), self._receive)

    def _receive(self) -> None:
        for _ in range(_BATCH):
            if self._socket is None:
                return
            try:
                data, ancillary, _flags, _address = self._socket.recvmsg(HANDOVER_BYTES_MAX, _ANCILLARY_BYTES, _CLOEXEC)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:  # out of descriptors: the kernel dropped what came along, its sender's client tries again
                return
            self._take(data, ancillary)

    def _take(self, data: bytes, ancillary: list[tuple[int, int, bytes]]) -> None:
        descriptors = array.array("i")
        for level, kind, value in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                descriptors.frombytes(value[: len(value) // descriptors.itemsize * descriptors.itemsize])
        for extra in descriptors[1:]:
            os.close(extra)
        if descriptors:
            self._on_socket(socket.socket(fileno=descriptors[0]), data)

    def close(self) -> None:
        """Stop taking connections."""
        if self._socket is not None and self._loop is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
