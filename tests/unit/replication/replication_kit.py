"""Shared by the tests of the replication machines: toy entries, and a look into lists of actions."""

from pando.replication import actions as act
from pando.replication.entry import Entry
from pando.replication.messages import REPLICATION_VERSION, Follow, Subscribe, position_fields
from pando.replication.windows import Windows
from pando.testing.sim_log import ToyLog, make_entry
from pando.types import EMPTY_CHECKSUM, NO_POSITION, TXID, Epoch, Position

SMALL = Windows(
    batch_bytes=400,
    chunk_bytes=100,
    database_bytes=800,
    link_bytes=1600,
    in_flight_bytes=2400,
    entry_bytes=500,
    log_reads=2,
    snapshots=1,
)


def filled_log(
    count: int, *, epoch: int = 1, size: int = 20, base: Position = NO_POSITION, mark: bytes = b""
) -> ToyLog:
    """A durable log of so many entries; `mark` makes another history of it."""
    log = ToyLog()
    for number in range(count):
        log.append(entry_after(log.last, epoch=epoch, payload=mark + number.to_bytes(2, "big") * (size // 2)))
    log.sync()
    return log


def entry_after(position: Position, *, epoch: int | None = None, payload: bytes = b"x" * 20, commits: int = 1) -> Entry:
    """The entry that follows a position."""
    at = Epoch(position.epoch or 1) if epoch is None else Epoch(epoch)
    return make_entry(position, epoch=at, commits=commits, timestamp_ms=0, payload=payload)


def position(epoch: int, txid: int, checksum: int = 0) -> Position:
    """A position with a made-up checksum."""
    return Position(epoch=Epoch(epoch), txid=TXID(txid), checksum=EMPTY_CHECKSUM | checksum)


def follow(at: Position, *, database: str = "data", stream: int = 1, **more) -> Follow:
    """What a replica at a position asks."""
    return Follow(database, stream, *position_fields(at), **more)


def subscribe(*follows: Follow, epoch: int = 1, **more) -> Subscribe:
    """The first message of a replica."""
    return Subscribe("r1", "http://r1", True, REPLICATION_VERSION, epoch, follows=follows, **more)


def sent(actions, kind=object):
    """The messages of a type that are sent."""
    return [a.message for a in actions if isinstance(a, act.Send) and isinstance(a.message, kind)]


def of(actions, kind):
    """The actions of a type."""
    return [a for a in actions if isinstance(a, kind)]


def only(actions, kind):
    """The one action of a type."""
    found = of(actions, kind)
    assert len(found) == 1, actions
    return found[0]
