"""Steps of consumer groups on the database of the feed: load the group, compute, store it if nobody else did.

On the primary. Not here: what a step does to a group (`groups`), HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from pando import limits
from pando.errors import Overloaded, SqlError
from pando.records.desk import Desk
from pando.records.engine import Row, Statement
from pando.records.fields import dates
from pando.records.problems import not_found
from pando.records.realtime import groups
from pando.records.realtime.changes import Change, Cursor
from pando.records.realtime.feed import CursorGone, Feed
from pando.records.realtime.frames import change_json
from pando.records.realtime.groups import Group, Lease, check_names
from pando.records.realtime.pump import Commits
from pando.records.realtime.redaction import redacted

TRIES_MAX: Final = 20
"""How often a step is computed when others come in between; each time another one has succeeded."""

_LOOK_S: Final = 1.0


class Item(msgspec.Struct, frozen=True):
    """A change that a member got. `attempt`: how often it was handed out; `until`: when it goes to others."""

    attempt: int
    until: str
    change: msgspec.Raw


class Claimed(msgspec.Struct, frozen=True):
    """What a member got. `lost`: up to this cursor changes were forgotten that the group has never seen, or null."""

    items: list[Item]
    lost: Cursor | None = None


class GroupInfo(msgspec.Struct, frozen=True, rename="camel"):
    """How far a group is."""

    name: str
    acknowledged: Cursor
    handed_out: Cursor
    in_flight: int


@dataclass(frozen=True, slots=True)
class _Step:
    """What a claim makes of a group: the leases that a member got, and the changes that they are of."""

    group: Group
    leases: list[Lease]
    changes: dict[Cursor, Change]
    lost: Cursor | None = None


class Consumers:
    """The consumer groups of one database."""

    def __init__(self, desk: Desk, commits: Commits) -> None:
        self._desk = desk
        self._commits = commits
        self._feed = Feed(desk.engine.reads())

    async def list_all(self) -> list[GroupInfo]:
        """Give the groups by name."""
        statement = groups.list_all(limits.CONSUMER_GROUPS_MAX)
        found = [groups.group_of(row) for row in await self._query(statement)]
        return [GroupInfo(each.name, each.floor, each.handed, len(each.leases)) for each in found]

    async def remove(self, name: str) -> None:
        """Delete a group. Raises ApiError 404."""
        await self._load(name)
        await self._desk.engine.write([groups.remove(name)])

    async def claim(self, name: str, member: str, *, most: int, lease_s: int, wait_s: int, since: Cursor) -> Claimed:
        """Give a member some changes; wait for them if there are none. A new group begins at `since`, -1: now.

        Raises ApiError.
        """
        check_names(name, member)
        await self._make(name, since)
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + wait_s
        with self._commits.heard():
            while True:
                event = self._commits.next()
                claimed = await self._try_claim(name, member, most, lease_s * 1000)
                left = ends_at - loop.time()
                if claimed.items or left <= 0:
                    return claimed
                with contextlib.suppress(TimeoutError):  # a lease may end without any commit
                    await asyncio.wait_for(event.wait(), min(left, _LOOK_S))

    async def _try_claim(self, name: str, member: str, most: int, lease_ms: int) -> Claimed:
        for _ in range(TRIES_MAX):
            group = await self._load(name)
            now_ms = self._desk.clock.wall_ms()
            step = await self._claim_step(group, member, now_ms, lease_ms, most)
            if step.group == group or await self._stored(step.group, now_ms):
                return await self._claimed(step)
        raise _crowded(name)

    async def _claim_step(self, group: Group, member: str, now_ms: int, lease_ms: int, most: int) -> _Step:
        """Read what may be handed out, within the bounds of one answer, and hand it out."""
        changes: dict[Cursor, Change] = {}
        gone: list[Cursor] = []
        size = 0
        for lease in group.leases:
            if lease.until_ms > now_ms or len(changes) >= most or size > limits.CHANGES_BATCH_BYTES_MAX:
                continue
            change = await self._feed.get(lease.sequence)
            if change is None:
                gone.append(lease.sequence)
            else:
                changes[lease.sequence] = change
                size += _size(change)
        group = replace(group, leases=tuple(each for each in group.leases if each.sequence not in gone))
        fresh: list[Change] = []
        lost = max(gone, default=None)
        is_full = size > limits.CHANGES_BATCH_BYTES_MAX
        if not is_full and (room := min(most - len(changes), group.room)) > 0:
            try:
                fresh = await self._feed.read(group.handed, most=room)
            except CursorGone as error:
                if error.oldest is None:
                    raise
                group, lost = group.without(error.oldest), error.oldest - 1
                fresh = await self._feed.read(group.handed, most=room)
        changes |= {change.sequence: change for change in fresh}
        count = len(changes)
        made, leases = group.claim(
            member, now_ms, lease_ms=lease_ms, most=count, fresh=[change.sequence for change in fresh]
        )
        return _Step(made, leases, changes, lost)

    async def _claimed(self, step: _Step) -> Claimed:
        schema = (await self._desk.known()).schema
        items = [
            Item(
                lease.attempt,
                dates.from_unix_ms(lease.until_ms),
                msgspec.Raw(change_json(redacted(change, schema.find(change.table)))),
            )
            for lease in step.leases
            if (change := step.changes.get(lease.sequence)) is not None
        ]
        return Claimed(items, step.lost)

    async def acknowledge(self, name: str, member: str, cursors: Sequence[Cursor]) -> list[Cursor]:
        """Be done with changes; gives those that the member does not have (any more). Raises ApiError."""
        return await self._change(name, member, lambda group, _: group.acknowledge(member, cursors))

    async def extend(self, name: str, member: str, cursors: Sequence[Cursor], lease_s: int) -> list[Cursor]:
        """Let a member keep changes for longer; gives those that it does not have (any more). Raises ApiError."""
        return await self._change(
            name, member, lambda group, now_ms: group.extend(member, cursors, now_ms + lease_s * 1000)
        )

    async def release(self, name: str, member: str) -> None:
        """Give what a member has to others. Raises ApiError."""
        await self._change(name, member, lambda group, _: (group.release(member), []))

    async def _change(
        self, name: str, member: str, step: Callable[[Group, int], tuple[Group, list[Cursor]]]
    ) -> list[Cursor]:
        check_names(name, member)
        for _ in range(TRIES_MAX):
            group = await self._load(name)
            now_ms = self._desk.clock.wall_ms()
            made, told = step(group, now_ms)
            if made == group or await self._stored(made, now_ms):
                return told
        raise _crowded(name)

    # -- rows --

    async def _load(self, name: str) -> Group:
        found = await self._query(groups.load(name))
        if not found:
            raise not_found("There is no consumer group with this name.")
        return groups.group_of(found[0])

    async def _make(self, name: str, since: Cursor) -> None:
        """Make a group if there is none with this name."""
        if await self._query(groups.load(name)):
            return
        if since >= 0:
            await self._feed.check(since)
        if len(await self._query(groups.list_all(limits.CONSUMER_GROUPS_MAX))) >= limits.CONSUMER_GROUPS_MAX:
            raise Overloaded(f"there are {limits.CONSUMER_GROUPS_MAX} consumer groups, which is the limit")
        after = since if since >= 0 else await self._feed.newest()
        now_ms = self._desk.clock.wall_ms()
        await self._desk.engine.write([Statement(groups.CREATE), groups.add(name, after, now_ms)])

    async def _stored(self, group: Group, now_ms: int) -> bool:
        return (await self._desk.engine.write([groups.store(group, now_ms)]))[0].changed == 1

    async def _query(self, statement: Statement) -> list[Row]:
        """Give the rows; none if nobody has made a group yet."""
        try:
            return await self._desk.engine.reads().query(statement.sql, statement.args)
        except SqlError as error:
            if "no such table" in error.message:
                return []
            raise


def _size(change: Change) -> int:
    return len(change.old_json or "") + len(change.new_json or "")


def _crowded(name: str) -> Overloaded:
    return Overloaded(f"the consumer group {name!r} was changed by others {TRIES_MAX} times meanwhile; try again")
