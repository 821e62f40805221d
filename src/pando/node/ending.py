"""How a server of HTTP ends its connections when it is told to stop, so that no client has to guess.

Each answer from then on is the last one of its connection and says so. A connection without a request has a moment for
one more, and is then told that nothing of it was read; what crosses that on its way may be sent again. Requests under
way have a while to be answered; what has no answer by then is told what is known of it. Not here: the connections
(`pando.node.http_protocol`, `websocket_protocol`).
"""

from __future__ import annotations

import socket
from collections.abc import Collection
from typing import Final, Protocol

from pando.node.plain_answers import plain_answer
from pando.waiting import until

LAST_S: Final = 0.15
"""How long a connection without a request may send one more: who is busy with a connection sends within that."""
LINGER_S: Final = 0.15
"""How long the last words may take to be read: what a client sends meanwhile must not wipe them out."""
TAKEN_MAX: Final = 4096
"""Connections taken from one listening socket at its end; its backlog is not longer."""
READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
STOPS: Final = plain_answer(
    "503 Service Unavailable",
    "this server stops and has read nothing of a request; send it again over another connection",
    "NOT_READY",
    retryable=True,
    is_unread=True,
)
STOPS_IN_BODY: Final = plain_answer(
    "503 Service Unavailable",
    "this server stops, and the request was not complete yet; nothing was done, send it again",
    "NOT_READY",
    retryable=True,
)
STOPS_IN_READ: Final = plain_answer(
    "503 Service Unavailable",
    "this server stops, and the answer was not there yet; ask again",
    "NOT_READY",
    retryable=True,
)
STOPS_IN_REQUEST: Final = plain_answer(
    "503 Service Unavailable",
    "this server stops, and the answer was not there yet; the request may have taken effect, look before repeating",
    "OUTCOME_UNKNOWN",
    retryable=False,
)


class Endable(Protocol):
    """One connection."""

    def end_after_answer(self) -> None:
        """The next answer is the last one."""
        ...

    def leave(self) -> None:
        """End the connection if nobody waits for an answer on it."""
        ...

    def is_in_flight(self) -> bool:
        """Tell whether somebody waits for an answer."""
        ...

    def has_unsent(self) -> bool:
        """Tell whether the kernel has not yet taken all of an answer."""
        ...

    def give_up(self) -> None:
        """Say what is known of a request that has no answer, and end the connection."""
        ...


async def end_connections(connections: Collection[Endable], answer_s: float, *, last_s: float = LAST_S) -> None:
    """End all connections; they leave the collection when they are closed. Requests have `answer_s` seconds."""
    for connection in list(connections):
        connection.end_after_answer()
    await until(lambda: not connections, last_s)
    for connection in list(connections):
        connection.leave()
    await until(lambda: not any(one.is_in_flight() or one.has_unsent() for one in connections), answer_s)
    for connection in list(connections):
        connection.give_up()
    await until(lambda: not connections, LINGER_S)


def take_waiting(listening: socket.socket) -> list[socket.socket]:
    """Take the connections that the kernel has accepted already: closing the listening socket would cut them.

    To be closed directly after: what comes in between is cut.
    """
    taken = []
    for _ in range(TAKEN_MAX):
        try:
            connection, _ = listening.accept()
        except OSError:  # none is left; or there are no descriptors, and nothing can be done
            break
        connection.setblocking(False)
        taken.append(connection)
    return taken
