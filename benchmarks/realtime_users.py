"""Event streams of 5,000 different users under rules that ask who they are, beside a real PocketBase in the same run.

Each user holds a stream with a token of its own, so each change is judged for each of them: once where all may see it
(one write becomes 5,000 events), once where only its owner may (one event). Not here: streams whose users do not matter
(`realtime`).
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any

import aiohttp

from benchmarks.common import Bench, bench
from benchmarks.realtime import Audience, Peer, Writer, both, key_of, run_and_hear, show

MEMBERS = "members"
SHARED, OWNED = "shared", "owned"
_FIELDS = ({"name": "n", "type": "number"}, {"name": "owner", "type": "text"})
_RULES = {
    SHARED: "@request.auth.id != '' && owner != @request.auth.id",
    OWNED: "owner = @request.auth.id",
}


@dataclass(frozen=True)
class Size:
    """How much is done."""

    users: int = 5_000
    calm_writes: int = 20
    """Each after the one before was heard."""
    hasty_writes: int = 100
    """By 16 clients."""


FULL = Size()
QUICK = Size(users=200, calm_writes=5, hasty_writes=20)


async def _make(writer: Writer, users: int) -> list[str]:
    """Make users and collections; gives a token for each user. Their passwords are cheap: they are never checked."""
    password = {"name": "password", "type": "password", "required": True, "hidden": True, "system": True, "cost": 4}
    await writer.do("POST", "", {"name": MEMBERS, "type": "auth", "fields": [password]})
    for name, rule in _RULES.items():
        rules = {"listRule": rule, "viewRule": rule}
        await writer.do("POST", "", {"name": name, "type": "base", "fields": list(_FIELDS), **rules})
    tokens = [""] * users

    async def member(number: int) -> None:
        row = {"id": key_of(number), "email": f"member{number}@example.org"}
        secret = {"password": "password-of-it", "passwordConfirm": "password-of-it"}
        await writer.do("POST", f"/{MEMBERS}/records", row | secret)
        answer = await writer.do("POST", f"/{MEMBERS}/impersonate/{key_of(number)}", {"duration": 86_400})
        tokens[number] = answer["token"]

    await writer.in_parallel(users, member)
    await writer.do("POST", f"/{SHARED}/records", {"id": key_of(0), "n": 0, "owner": "nobody"})
    for number in range(16):
        await writer.do("POST", f"/{OWNED}/records", {"id": key_of(number), "n": 0, "owner": key_of(number)})
    return tokens


async def measure(peer: Peer, size: Size) -> dict[str, Any]:
    """Measure one server."""
    audience = Audience()
    try:
        async with aiohttp.ClientSession() as session:
            writer = await Writer.signed_in(session, peer.url)
            tokens = await _make(writer, size.users)
            found = {}
            for collection, listeners in ((SHARED, size.users), (OWNED, 1)):
                writer.collection = collection
                opened = await audience.ask(
                    "subscribe", url=peer.url, topics=[f"{collection}/*"] * size.users, tokens=tokens
                )
                found[f"{collection}: opened"] = opened
                found |= await _writes(audience, writer, collection, listeners, size)
                await audience.ask("close")
                await asyncio.sleep(2)
            return found
    finally:
        audience.end()


async def _writes(audience: Audience, writer: Writer, collection: str, listeners: int, size: Size) -> dict[str, Any]:
    records = 1 if collection == SHARED else 16

    def write(number: int) -> Awaitable[None]:
        return writer.write(number % records)

    calm = [await run_and_hear(audience, writer, listeners, write(number)) for number in range(size.calm_writes)]
    middle = len(calm) // 2
    return {
        f"{collection}: one write at a time": {
            name: sorted(each[name] for each in calm)[middle]
            for name in ("after_request_p50_ms", "after_request_p99_ms")
        },
        f"{collection}: 16 clients": await run_and_hear(
            audience, writer, listeners * size.hasty_writes, writer.in_parallel(size.hasty_writes, write)
        ),
    }


def run(table: Bench, size: Size) -> dict[str, Any]:
    """Measure both."""
    return both(table, lambda peer: measure(peer, size))


if __name__ == "__main__":
    with bench() as made:
        result = run(made, QUICK if "--quick" in sys.argv else FULL)
    show(result)
