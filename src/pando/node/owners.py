"""Processes that want a node to run: each holds a connection to its supervisor.

On connecting they hear who the node is, one line of JSON. A supervisor that was started for such processes
(`is_owned`) ends when the last of them is gone, however it went. Who ends in order shuts its side down and waits for
the end of the other one: that comes at once if others need the node still, else when the node has stopped. Not here:
the other side (`pando.embedded.attaching`).
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from pando.errors import PandoError

OWNERS_MAX: Final = 256
"""Connections at a time; `select` takes no more than 1,024 descriptors."""
_BACKLOG: Final = 64
_UNEXPECTED_BYTES: Final = 4096


class NodeFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an owner hears. `error` and `code`: the node could not be started."""

    pid: int = 0
    url: str = ""
    """Where other nodes reach this one; empty: nowhere."""
    is_owned: bool = False
    error: str = ""
    code: str = ""


class Owners:
    """The supervisor's side."""

    def __init__(self, path: Path, facts: NodeFacts, *, first: socket.socket | None = None) -> None:
        """`first`: the connection of the process that started this node."""
        self._hello = msgspec.json.encode(facts) + b"\n"
        self._is_owned = facts.is_owned
        self._connections: list[socket.socket] = []
        path.unlink(missing_ok=True)
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listening.setblocking(False)
        self._listening.bind(str(path))
        self._listening.listen(_BACKLOG)
        if first is not None:
            self._take(first)

    @property
    def watched(self) -> Sequence[socket.socket]:
        """What `select` is to look at."""
        if len(self._connections) < OWNERS_MAX:
            return [self._listening, *self._connections]
        return self._connections

    @property
    def is_abandoned(self) -> bool:
        """Whether nobody wants the node any more."""
        return self._is_owned and not self._connections

    def look(self, readable: Sequence[object]) -> list[socket.socket]:
        """Take who comes, let go who goes; gives those that went last and wait for the node's end."""
        gone = [one for one in self._connections if one in readable and _is_over(one)]
        if self._listening in readable:
            with contextlib.suppress(OSError):
                self._take(self._listening.accept()[0])
        self._connections = [one for one in self._connections if one not in gone]
        if self.is_abandoned:
            return gone
        for one in gone:
            _end(one)
        return []

    def _take(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        try:
            connection.send(self._hello)  # the first bytes on a connection always fit
        except OSError:
            connection.close()
        else:
            self._connections.append(connection)

    def close(self) -> None:
        """Let everybody go."""
        self._listening.close()
        for one in self._connections:
            _end(one)

    def forget(self) -> None:
        """In a child after a fork: these are the supervisor's alone."""
        for one in [self._listening, *self._connections]:
            one.close()


def tell_failure(first: socket.socket, error: PandoError) -> None:
    """Tell who started the node that it cannot run."""
    facts = NodeFacts(error=error.message, code=error.code)
    with contextlib.suppress(OSError):
        first.sendall(msgspec.json.encode(facts) + b"\n")


def _is_over(connection: socket.socket) -> bool:
    try:
        return not connection.recv(_UNEXPECTED_BYTES)
    except BlockingIOError:
        return False
    except OSError:
        return True


def _end(connection: socket.socket) -> None:
    """End a connection, also where children hold it."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
