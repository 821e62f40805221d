"""Consumer groups: each change goes to one member of a group, until one has acknowledged it.

A group is a value: how far it has handed out changes (`handed`), and who has which of them for how long (`leases`);
whatever is not in a lease and not after `handed` is done. A lease that is over goes to whoever claims next, before
anything new. So every change is delivered at least once, and to two members only if the first was too slow.

The value is one row of `_consumers` in the database of the feed. A step is: `load` the row, compute, `store` it if it
is still the one that was loaded (by `version`), else begin anew; so any number of processes may do it. The table is not
in the feed itself. Pure: `now_ms` comes in, SQL is made here and run elsewhere. Not here: reading changes (`feed`),
HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from pando import limits
from pando.errors import CorruptionError, invariant
from pando.records.engine import Row, Statement
from pando.records.problems import REQUIRED, Problem, ValidationFailed
from pando.records.realtime.changes import Cursor

CREATE: Final = """CREATE TABLE IF NOT EXISTS _consumers (
  name TEXT PRIMARY KEY NOT NULL,
  version INTEGER NOT NULL,
  floor INTEGER NOT NULL,
  handed INTEGER NOT NULL,
  leases TEXT NOT NULL,
  updated_ms INTEGER NOT NULL
) WITHOUT ROWID"""
_COLUMNS: Final = "name, version, floor, handed, leases"
_ADD: Final = f"INSERT INTO _consumers ({_COLUMNS}, updated_ms) VALUES (?, 1, ?, ?, '[]', ?) ON CONFLICT DO NOTHING"
_REPLACE: Final = (
    "UPDATE _consumers SET version = ?, floor = ?, handed = ?, leases = ?, updated_ms = ? "
    "WHERE name = ? AND version = ?"
)


class Lease(msgspec.Struct, frozen=True, array_like=True):
    """A change that a member has. `attempt`: how often it was handed out."""

    sequence: Cursor
    member: str
    until_ms: int
    attempt: int = 1


_encode_leases = msgspec.json.Encoder().encode
_decode_leases = msgspec.json.Decoder(tuple[Lease, ...]).decode


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One consumer group. Leases are in the order of their changes."""

    name: str
    version: int = 0
    handed: Cursor = 0
    leases: tuple[Lease, ...] = ()

    @property
    def floor(self) -> Cursor:
        """All changes up to here are acknowledged."""
        return self.leases[0].sequence - 1 if self.leases else self.handed

    @property
    def room(self) -> int:
        """How many more changes may be handed out before some are acknowledged."""
        return max(0, limits.CONSUMER_IN_FLIGHT_MAX - len(self.leases))

    def overdue(self, now_ms: int) -> int:
        """Count the leases that are over."""
        return sum(lease.until_ms <= now_ms for lease in self.leases)

    def claim(
        self, member: str, now_ms: int, *, lease_ms: int, most: int, fresh: Sequence[Cursor]
    ) -> tuple[Group, list[Lease]]:
        """Give a member at most so many changes: those whose lease is over, then of `fresh`, what follows `handed`."""
        check_names(self.name, member)
        invariant(list(fresh) == list(range(self.handed + 1, self.handed + 1 + len(fresh))), "fresh changes follow")
        until_ms = now_ms + lease_ms
        again = [
            Lease(lease.sequence, member, until_ms, lease.attempt + 1)
            for lease in self.leases
            if lease.until_ms <= now_ms
        ][:most]
        new = [Lease(sequence, member, until_ms) for sequence in fresh[: min(most - len(again), self.room)]]
        given = {lease.sequence: lease for lease in again}
        leases = (*(given.get(lease.sequence, lease) for lease in self.leases), *new)
        handed = new[-1].sequence if new else self.handed
        return replace(self, handed=handed, leases=leases), [*again, *new]

    def acknowledge(self, member: str, sequences: Sequence[Cursor]) -> tuple[Group, list[Cursor]]:
        """Be done with changes that a member has; gives those that it does not have (any more)."""
        held = self._held_by(member)
        done = held & set(sequences)
        kept = tuple(lease for lease in self.leases if lease.sequence not in done)
        return replace(self, leases=kept), [sequence for sequence in sequences if sequence not in held]

    def extend(self, member: str, sequences: Sequence[Cursor], until_ms: int) -> tuple[Group, list[Cursor]]:
        """Let a member keep changes until a moment; gives those that it does not have (any more)."""
        held = self._held_by(member)
        wanted = held & set(sequences)
        leases = tuple(
            msgspec.structs.replace(lease, until_ms=until_ms) if lease.sequence in wanted else lease
            for lease in self.leases
        )
        return replace(self, leases=leases), [sequence for sequence in sequences if sequence not in held]

    def release(self, member: str) -> Group:
        """A member is gone: what it has may go to others at once."""
        leases = tuple(
            msgspec.structs.replace(lease, until_ms=0) if lease.member == member else lease for lease in self.leases
        )
        return replace(self, leases=leases)

    def without(self, before: Cursor) -> Group:
        """Go on at a change, since those before it are no longer kept (CursorGone tells where): they are lost."""
        leases = tuple(lease for lease in self.leases if lease.sequence >= before)
        return replace(self, handed=max(self.handed, before - 1), leases=leases)

    def _held_by(self, member: str) -> set[Cursor]:
        return {lease.sequence for lease in self.leases if lease.member == member}


def check_names(group: str, member: str) -> None:
    """Raise ValidationFailed for a name that cannot be one."""
    problems = {
        name: problem for name, text in (("group", group), ("member", member)) if (problem := _check_name(text))
    }
    if problems:
        raise ValidationFailed(dict(problems))


def _check_name(text: str) -> Problem | None:
    most = limits.CONSUMER_NAME_CHARS_MAX
    if not text:
        return REQUIRED
    if len(text) > most:
        return Problem("validation_length_too_long", f"The length must be at most {most}.", {"max": most, "min": 0})
    return None


# -- the row --


def load(name: str) -> Statement:
    """Make the query for a group; `group_of` reads its row, no row: there is no such group."""
    return Statement(f"SELECT {_COLUMNS} FROM _consumers WHERE name = ?", (name,))


def group_of(row: Row) -> Group:
    """Read a row of the table. Raises CorruptionError."""
    name, version, _, handed, leases = row
    if not (isinstance(name, str) and isinstance(version, int) and isinstance(handed, int) and isinstance(leases, str)):
        raise CorruptionError(f"the row of consumer group {name!r} is none")
    try:
        return Group(name=name, version=version, handed=handed, leases=_decode_leases(leases))
    except msgspec.MsgspecError as error:
        raise CorruptionError(f"the leases of consumer group {name!r} cannot be read: {error}") from error


def add(name: str, after: Cursor, now_ms: int) -> Statement:
    """Make the statement for a new group that begins after a cursor; one that is there already stays as it is."""
    return Statement(_ADD, (name, after, after, now_ms))


def store(group: Group, now_ms: int) -> Statement:
    """Make the statement that replaces the row which a group was made from; if no row changed, load and try again."""
    values = (group.version + 1, group.floor, group.handed, _encode_leases(group.leases).decode(), now_ms)
    return Statement(_REPLACE, (*values, group.name, group.version))


def remove(name: str) -> Statement:
    """Make the statement that deletes a group."""
    return Statement("DELETE FROM _consumers WHERE name = ?", (name,))


def list_all(most: int) -> Statement:
    """Make the query for groups by name; `group_of` reads the rows."""
    return Statement(f"SELECT {_COLUMNS} FROM _consumers ORDER BY name LIMIT ?", (most,))


def lowest_floor(active_since_ms: int) -> Statement:
    """Make the query for the cursor up to which no group needs the feed; NULL: none does.

    Groups that have not moved since then do not count: they were left behind.
    """
    return Statement("SELECT min(floor) FROM _consumers WHERE updated_ms >= ?", (active_since_ms,))
