"""The open streams of one web process: what Hrana lets a client leave behind between two requests.

That is a transaction, open on the primary's writer under a session number or here on a read-only connection, stored SQL
texts, and settings of its connection. A stream with nothing to remember is not kept: its client gets no baton, which
clients take well, and starts anew. Time is passed in. Not here: running anything (see `pando.sql.service`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pando import limits
from pando.errors import Overloaded, StreamExpired
from pando.sql.batons import CLOSED, INVALID, USED, Baton, BatonCodec, BatonError
from pando.sql.texts import StoredTexts
from pando.store.requests import Failure, Request

if TYPE_CHECKING:
    from pando.sql.readers import Held

EXPIRED_MEMORY_S: Final = 300.0
"""How long it is remembered that a stream expired, to tell its client (sqld's figure)."""
EXPIRED_MEMORY_MAX: Final = 10_000


@dataclass(slots=True, eq=False)
class Stream:
    """What is kept for one client between its requests."""

    id: int
    database: str
    session: int
    """Its number on the link to the primary's store."""
    sequence: int = 0
    is_busy: bool = False
    is_open: bool = False
    """A transaction is open on the primary."""
    link_generation: int = 0
    """The link on which that transaction was begun."""
    held: Held | None = None
    """A connection of this process that holds a read transaction for the stream."""
    begun: Request | None = None
    """A plain BEGIN that nothing has followed yet: it holds nothing anywhere."""
    last_used: float = 0.0
    chars: int = 0
    """Length of its texts when it was used last."""
    texts: StoredTexts = field(default_factory=StoredTexts)
    settings: dict[str, int] = field(default_factory=dict)
    """What PRAGMAs of its client have set otherwise than usual."""
    is_attached: bool = False
    """It lives with a connection (WebSocket) and not with batons: it is in no table."""
    is_gone: bool = False
    """Its connection ended while it was busy."""
    lost: Failure | None = None
    """Why its transaction is gone, which a client that sent several requests at once does not know yet."""

    @property
    def has_something(self) -> bool:
        """Tell whether the next request of this client needs anything from here."""
        return self.has_transaction or bool(self.texts) or bool(self.settings)

    @property
    def has_transaction(self) -> bool:
        """Tell whether a transaction is open, here or on the primary."""
        return self.is_open or self.held is not None or self.begun is not None

    @property
    def holds(self) -> bool:
        """Tell whether anybody else may have to wait for what it holds; otherwise it costs its texts at most."""
        return self.is_open or self.held is not None


class StreamTable:
    """All streams of one web process, least recently used first. `new_id` gives unpredictable 63-bit numbers."""

    def __init__(self, *, node: str, web: int, codec: BatonCodec, new_id: Callable[[], int]) -> None:
        self.node = node
        self.web = web
        self._codec = codec
        self._new_id = new_id
        self._streams: OrderedDict[int, Stream] = OrderedDict()
        self._expired: OrderedDict[int, float] = OrderedDict()
        self._last_session = 0
        self._chars = 0

    def __len__(self) -> int:
        return len(self._streams)

    def __iter__(self) -> Iterator[Stream]:
        return iter(self._streams.values())

    def new(self, database: str) -> Stream:
        """Make a stream; it is kept only if `keep` finds something to remember."""
        self._last_session += 1
        return Stream(self._new_id(), database, self._last_session)

    def renew(self, stream: Stream) -> None:
        """Give a stream another session on the primary, since its last one was ended from here."""
        self._last_session += 1
        stream.session = self._last_session

    def owner(self, text: str) -> Baton:
        """Read a baton to see where its stream is; raises BatonError."""
        return self._codec.decode(text)

    def is_here(self, baton: Baton) -> bool:
        """Tell whether this process holds the stream."""
        return baton.node == self.node and baton.web == self.web

    def take(self, baton: Baton, database: str) -> Stream:
        """Find the stream of a baton and mark it busy; raises BatonError, StreamExpired."""
        stream = self._streams.get(baton.stream)
        if stream is None:
            if baton.stream in self._expired:
                raise StreamExpired("The stream has expired due to inactivity")
            raise BatonError(CLOSED)
        if stream.database != database:
            raise BatonError(INVALID)
        if stream.is_busy or stream.sequence != baton.sequence:
            raise BatonError(USED)
        stream.is_busy = True
        return stream

    def keep(self, stream: Stream, now: float) -> str | None:
        """End a request: give the next baton, or None if there is nothing to remember. Raises Overloaded when full."""
        stream.is_busy = False
        if not stream.has_something:
            self._forget(stream)
            return None
        if stream.id not in self._streams and len(self._streams) >= limits.STREAMS_MAX and not self._evict(now):
            raise Overloaded(f"this process has {limits.STREAMS_MAX} open streams; close some, or try again later")
        stream.sequence += 1
        stream.last_used = now
        self._forget(stream)
        self._streams[stream.id] = stream
        stream.chars = stream.texts.chars
        self._chars += stream.chars
        while self._chars > limits.STREAMS_CHARS_MAX and self._evict(now, but=stream):
            continue
        return self._codec.encode(Baton(self.node, self.web, stream.id, stream.sequence))

    def close(self, stream: Stream) -> None:
        """Forget a stream for good."""
        self._forget(stream)

    def _forget(self, stream: Stream) -> None:
        if self._streams.pop(stream.id, None) is not None:
            self._chars -= stream.chars

    def _evict(self, now: float, but: Stream | None = None) -> bool:
        """Forget the longest idle stream that holds nothing but texts; False if there is none."""
        for stream in self._streams.values():
            if stream is not but and not stream.is_busy and not stream.holds:
                self.expire_now(stream, now)
                return True
        return False

    def expire(self, now: float) -> list[Stream]:
        """Forget streams that were idle for too long; gives them, so that their transactions can be ended."""
        expired = []
        for stream in self._streams.values():
            idle_s = now - stream.last_used
            if idle_s < limits.STREAM_IDLE_S:
                break
            if not stream.is_busy and (stream.holds or idle_s >= limits.STREAM_KEPT_S):
                expired.append(stream)
        for stream in expired:
            self.expire_now(stream, now)
        return expired

    def expire_now(self, stream: Stream, now: float) -> None:
        """Forget one stream and remember that its time was over."""
        self._forget(stream)
        self._expired[stream.id] = now
        while self._expired and (
            len(self._expired) > EXPIRED_MEMORY_MAX or now - next(iter(self._expired.values())) > EXPIRED_MEMORY_S
        ):
            self._expired.popitem(last=False)
