"""The event streams of one web process: who they are, what they subscribe to, and what waits to be sent to them.

A stream loses nothing while it lives: when too much waits for it, or a change cannot be told, it ends, and its client
begins anew. Events wait as they are (their data is shared between streams) and become bytes when they are taken.
`cursor` says up to which change of the feed events have been handed out, or are being so; None while no stream needs
the feed. Pure: `now` comes in, who writes to the network is called (`on_ready`) when there is something to take. Not
here: which events (`matching`), HTTP.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from enum import StrEnum

from pando import limits
from pando.errors import Overloaded, RetryLater, invariant
from pando.records.problems import bad_request, forbidden, not_found
from pando.records.realtime.changes import Cursor
from pando.records.realtime.client_ids import split_event_id
from pando.records.realtime.frames import connected_data, event_id_line, event_rest
from pando.records.realtime.identities import CollectionEffect, Effect, Identity, IdentityKey
from pando.records.realtime.topics import CONNECTED, Subscription


class Ending(StrEnum):
    """Why a stream ended."""

    LEFT = "left"
    """The client went away."""
    IDLE = "idle"
    AGE = "age"
    OVERFLOW = "overflow"
    """The client does not keep up."""
    MISSED = "missed"
    """A change could not be told."""
    STOPPED = "stopped"
    """The process stops."""


class StaleIdentity(RetryLater):
    """The record of a subscription request was read before a change that is handed out already: read it again."""


class Event:
    """What streams are told: one object for all that are told the same.

    `place`: with this event all of this change has been told; None: not yet, or no change. `rest` is what is sent after
    the id of each stream, `waits_for` in how many outboxes it is.
    """

    __slots__ = ("place", "rest", "size", "waits_for")

    def __init__(self, name: str, data: bytes, place: Cursor | None = None) -> None:
        self.rest = event_rest(name, data)
        self.size = len(data)
        self.place = place
        self.waits_for = 0


class Held:
    """A subscription of one stream; it hears of changes after `since`."""

    __slots__ = ("client", "since", "subscription")

    def __init__(self, client: Client, subscription: Subscription, since: Cursor) -> None:
        self.client = client
        self.subscription = subscription
        self.since = since

    @property
    def is_current(self) -> bool:
        """Whether the stream lives and still has this subscription."""
        return self.client.ending is None and self.client.held.get(self.subscription.text) is self


class Client:
    """One event stream. Only its registry changes it."""

    __slots__ = (
        "behind",
        "ending",
        "held",
        "id",
        "id_line",
        "identified_at",
        "identity",
        "ip",
        "on_ready",
        "opened_at",
        "outbox",
        "outbox_bytes",
        "place",
        "resumes_at",
        "sent_at",
    )

    def __init__(self, client_id: str, ip: str, now: float, on_ready: Callable[[], None], place: Cursor | None) -> None:
        self.id = client_id
        self.id_line = event_id_line(client_id)
        self.ip = ip
        self.on_ready = on_ready
        self.opened_at = now
        self.sent_at = now
        self.place = place
        """The change that was told last, if its events carry their places; else None."""
        self.resumes_at = place
        """From where its first subscriptions hear; None when they have been made."""
        self.behind: Cursor | None = None
        """Up to where it was told, while it catches up with the others; None: it hears what they hear."""
        self.identity: Identity | None = None
        self.identified_at: Cursor = 0
        """The newest change that its identity has in it already."""
        self.held: dict[str, Held] = {}
        self.outbox: deque[Event] = deque()
        self.outbox_bytes = 0
        self.ending: Ending | None = None


class Registry:
    """All streams of one web process."""

    def __init__(self) -> None:
        self.cursor: Cursor | None = None
        self._clients: dict[str, Client] = {}
        self._topics: dict[str, dict[Held, None]] = {}
        self._identities: dict[IdentityKey, dict[Client, None]] = {}
        self._topics_chars = 0
        self._waiting_bytes = 0

    def __len__(self) -> int:
        return len(self._clients)

    @property
    def needs_feed(self) -> bool:
        """Whether some stream subscribes to something, or has an identity that a change may end."""
        return bool(self._topics or self._identities)

    def get(self, client_id: str) -> Client | None:
        """Find a living stream; ids of its events will do."""
        return self._clients.get(split_event_id(client_id)[0])

    # -- requests --

    def connect(
        self, client_id: str, ip: str, now: float, on_ready: Callable[[], None], *, place: Cursor | None = None
    ) -> Client:
        """Begin a stream; its first event is there to be taken. Raises Overloaded.

        `place`: the events carry their places, and the first subscriptions hear of all changes after this one, as after
        a stream that was lost.
        """
        invariant(client_id not in self._clients, "a client id is used once")
        if len(self._clients) >= limits.REALTIME_CLIENTS_MAX:
            raise Overloaded(f"this process has {len(self._clients)} event streams, which is the limit; try again")
        client = self._clients[client_id] = Client(client_id, ip, now, on_ready, place)
        self.tell(client, Event(CONNECTED, connected_data(client_id), place))
        return client

    def subscribe(
        self, client_id: str, subscriptions: Sequence[Subscription], identity: Identity | None, ip: str, seen: Cursor
    ) -> Client:
        """Replace what a stream subscribes to, and who it is. Raises ApiError, StaleIdentity, Overloaded.

        `seen`: the newest change when the request was served, read before the identity was. What was subscribed to
        already misses nothing; what is new hears of later changes.
        """
        client = self.get(client_id)
        if client is None:
            raise not_found("There is no event stream with this client id.")
        if client.ip != ip:
            raise bad_request("The event stream belongs to another address.")
        if client.identity is not None and (identity is None or identity.key != client.identity.key):
            raise forbidden("The event stream belongs to somebody else's authorization.")
        if identity is not None and self.cursor is not None and seen < self.cursor:
            raise StaleIdentity("the signed-in record has been changed meanwhile; try again")
        self._check_room(client, subscriptions)
        since = self._since(client, seen) if subscriptions else seen
        self._identify(client, identity)
        client.identified_at = seen
        known = client.held
        self._drop_topics(client)
        for each in subscriptions:
            self._hold(known.get(each.text) or Held(client, each, since))
        if self.cursor is None:
            self.cursor = seen
        self._look_whether_needed()
        return client

    def _look_whether_needed(self) -> None:
        """Nobody who needs the feed: it is read no more, and from its end when somebody comes."""
        if not self.needs_feed:
            self.cursor = None

    def _since(self, client: Client, seen: Cursor) -> Cursor:
        """From where new subscriptions of a stream hear. The first ones of a stream with a place go back to it."""
        place, client.resumes_at = client.resumes_at, None
        if place is None:
            return seen
        if place < (seen if self.cursor is None else self.cursor):
            client.behind = place
        return place

    def _check_room(self, client: Client, subscriptions: Sequence[Subscription]) -> None:
        asked = sum(len(each.text) for each in subscriptions) - sum(map(len, client.held))
        if asked > 0 and self._topics_chars + asked > limits.REALTIME_TOPICS_CHARS_MAX:
            raise Overloaded("this process holds as many subscriptions as it may; try again later")

    def _hold(self, held: Held) -> None:
        text = held.subscription.text
        held.client.held[text] = held
        self._topics_chars += len(text)
        self._topics.setdefault(held.subscription.topic, {})[held] = None

    def _drop_topics(self, client: Client) -> None:
        for held in client.held.values():
            self._topics_chars -= len(held.subscription.text)
            holders = self._topics[held.subscription.topic]
            del holders[held]
            if not holders:
                del self._topics[held.subscription.topic]
        client.held = {}

    # -- who they are --

    def _identify(self, client: Client, identity: Identity | None) -> None:
        if client.identity is not None:
            holders = self._identities[client.identity.key]
            del holders[client]
            if not holders:
                del self._identities[client.identity.key]
        client.identity = identity
        if identity is not None:
            self._identities.setdefault(identity.key, {})[client] = None

    def apply(self, effect: Effect, sequence: Cursor) -> None:
        """Let a change end identities or give them newer values; their streams go on, if need be as guests."""
        if isinstance(effect, CollectionEffect):
            keys = [key for key in self._identities if key[0] == effect.collection_id]
        else:
            keys = [effect.key] if effect.key in self._identities else []
        for client in [client for key in keys for client in self._identities[key]]:
            if client.identity is not None and client.identified_at < sequence:
                self._identify(client, effect.applied_to(client.identity))
        self._look_whether_needed()

    # -- events --

    @property
    def topics(self) -> Collection[str]:
        """Name all topics that somebody subscribes to."""
        return self._topics.keys()

    def holders(self, topics: Iterable[str]) -> Iterator[Held]:
        """Name the subscriptions to some topics, of streams that do not catch up at the moment."""
        for topic in topics:
            for held in self._topics.get(topic, ()):
                if held.client.behind is None:
                    yield held

    def publish(self, topic: str, data: bytes) -> int:
        """Tell everybody who subscribes to a topic that is no collection's; gives how many."""
        holders = [held for held in self._topics.get(topic, ()) if held.is_current]
        for held in holders:
            self.tell(held.client, Event(held.subscription.text, data))
        return len(holders)

    def tell(self, client: Client, event: Event) -> None:
        """Let an event wait for a stream. What does not fit ends the stream."""
        if client.ending is not None:
            return
        size = event.size
        if client.outbox and (
            len(client.outbox) >= limits.REALTIME_OUTBOX_EVENTS_MAX
            or client.outbox_bytes + size > limits.REALTIME_OUTBOX_BYTES_MAX
        ):
            self.end(client, Ending.OVERFLOW)
            return
        client.outbox.append(event)
        client.outbox_bytes += size
        if not event.waits_for:  # it is in memory once, however many it waits for
            self._waiting_bytes += size
        event.waits_for += 1
        client.on_ready()
        while self._waiting_bytes > limits.REALTIME_OUTBOXES_BYTES_MAX and len(self._clients) > 1:
            self.end(max(self._clients.values(), key=lambda each: each.outbox_bytes), Ending.OVERFLOW)

    def take(self, client: Client, now: float) -> bytes:
        """Give the bytes that are to be sent to a stream now, b"" if there are none."""
        if not client.outbox:
            return b""
        parts: list[bytes] = []
        for event in client.outbox:
            parts += (client.id_line if client.place is None else _id_line_with_place(client, event), event.rest)
        if client.ending is None:
            self._forget_weight(client)
        client.outbox.clear()
        client.sent_at = now
        return b"".join(parts)

    def _forget_weight(self, client: Client) -> None:
        """What is in the outbox of a stream waits for it no more."""
        client.outbox_bytes = 0
        for event in client.outbox:
            event.waits_for -= 1
            if not event.waits_for:
                self._waiting_bytes -= event.size

    def caught_up(self, client: Client) -> None:
        """From now on a stream hears what the others hear; what it was told is not told again."""
        if client.behind is not None:
            for held in client.held.values():
                held.since = max(held.since, client.behind)
            client.behind = None

    # -- endings --

    def end(self, client: Client, ending: Ending) -> None:
        """End a stream. What waits is still sent, unless something after it will be missing."""
        if client.ending is not None:
            return
        client.ending = ending
        del self._clients[client.id]
        self._identify(client, None)
        self._drop_topics(client)
        self._forget_weight(client)  # nobody ends it a second time
        if ending in (Ending.OVERFLOW, Ending.MISSED, Ending.LEFT):
            client.outbox.clear()
        self._look_whether_needed()
        client.on_ready()

    def end_all(self, ending: Ending) -> None:
        """End every stream."""
        for client in list(self._clients.values()):
            self.end(client, ending)

    def expire(self, now: float) -> None:
        """End streams that were idle for too long, or are too old."""
        for client in list(self._clients.values()):
            if now - client.opened_at >= limits.REALTIME_STREAM_S:
                self.end(client, Ending.AGE)
            elif now - client.sent_at >= limits.REALTIME_IDLE_S:
                self.end(client, Ending.OVERFLOW if client.outbox else Ending.IDLE)


def _id_line_with_place(client: Client, event: Event) -> bytes:
    if event.place is not None:
        client.place = event.place
    return event_id_line(client.id, client.place)
