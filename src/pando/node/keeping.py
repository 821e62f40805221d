"""Keeps one link to a store open: dials, waits after failures, dials again; notices a link that has gone silent.

The pause before the next try grows with each failure and is cut short by `wake`. Not here: what is asked on the link.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from pando.clock import Random
from pando.errors import PandoError, PrimaryUnavailable
from pando.log import EventLog
from pando.node.asking import AskedLink
from pando.store import protocol as wire
from pando.store.handshake import Peer
from pando.store.link import Link, LinkEnd
from pando.store.link_open import LinkHandlers, OnOpen

Dial = Callable[[OnOpen], Awaitable[Link]]


class Pauses:
    """Pauses between tries: doubling from `least_s` to `most_s`, each cut by up to a half so that nodes spread."""

    def __init__(self, least_s: float, most_s: float, chance: Random) -> None:
        self._least_s = least_s
        self._most_s = most_s
        self._chance = chance
        self._tries = 0

    def next_s(self) -> float:
        """Give the next pause in seconds."""
        pause_s = min(self._most_s, self._least_s * float(1 << min(self._tries, 30)))
        self._tries += 1
        return pause_s * self._chance.uniform(0.5, 1.0)

    def reset(self) -> None:
        """It worked: start from the shortest pause again."""
        self._tries = 0


class LinkKeeper:
    """One link that comes back. `current` is the open link, or None with `reason` saying why."""

    def __init__(
        self,
        *,
        kind: str,
        url: str,
        dial: Dial,
        pauses: Pauses,
        log: EventLog,
        next_number: Callable[[], int],
        on_push: Callable[[AskedLink, Any], None],
        on_change: Callable[[], None],
        silence_s: float = 0.0,
        quiet_tries: int = 0,
    ) -> None:
        """`on_change` is called when the link came or went; `silence_s` 0: the other end cannot go silent.

        `quiet_tries`: failures that are not worth a line in the log, such as while the other process starts.
        """
        self.current: AskedLink | None = None
        self.reason = "it was not reached yet"
        self.url = url
        self._kind = kind
        self._dial = dial
        self._pauses = pauses
        self._log = log
        self._next_number = next_number
        self._on_push = on_push
        self._on_change = on_change
        self._silence_s = silence_s
        self._wake = asyncio.Event()
        self._ended = asyncio.Event()
        self._quiet_tries = quiet_tries
        self._failures = 0
        self._is_closing = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; returns at once."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    def wake(self) -> None:
        """Try again now instead of after the pause."""
        self._wake.set()

    async def close(self) -> None:
        """Stop, and close the link."""
        self._is_closing = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self.current is not None:
            self.current.link.close("this process stops")

    async def _run(self) -> None:
        while True:
            self._ended.clear()
            self._wake.clear()
            try:
                await self._dial(self._opened)
            except PandoError as error:
                await self._pause(error)
                continue
            self._pauses.reset()
            self._failures = 0
            await self._watch()

    async def _pause(self, error: PandoError) -> None:
        self.reason = error.message
        pause_s = self._pauses.next_s()
        self._failures += 1
        if self._failures == self._quiet_tries + 1:  # once for each time that it goes away, not for each try
            self._log.emit("link.failed", kind=self._kind, url=self.url, reason=error.message, retry_s=pause_s)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause_s):  # wait_for of Python 3.11 can lose a cancellation
                await self._wake.wait()

    def _opened(self, link: Link, peer: Peer) -> LinkHandlers:
        name = f"the store of node {peer.node} ({self.url})"
        asked = AskedLink(
            link, name=name, number=self._next_number(), on_push=lambda message: self._on_push(asked, message)
        )

        def on_closed(end: LinkEnd) -> None:
            if self.current is asked:
                self.current = None
            self.reason = f"the link to {name} ended ({end})"
            if not self._is_closing:
                self._log.emit("link.closed", kind=self._kind, node=peer.node, url=self.url, reason=str(end))
            self._ended.set()
            self._on_change()

        self.current = asked
        self._log.emit("link.opened", kind=self._kind, node=peer.node, url=self.url)
        self._on_change()
        return asked.handlers(on_closed)

    async def _watch(self) -> None:
        """Wait for the end of the link; a silent one is asked something, and closed when it does not answer."""
        if not self._silence_s:
            await self._ended.wait()
            return
        while self.current is not None:
            asked, received = self.current, self.current.received
            try:
                async with asyncio.timeout(self._silence_s / 4):
                    await self._ended.wait()
            except TimeoutError:
                if asked.received == received:
                    await self._probe(asked)

    async def _probe(self, asked: AskedLink) -> None:
        try:
            async with asyncio.timeout(self._silence_s * 3 / 4):
                await asked.ask(wire.GetStatus(asked.next_id()), PrimaryUnavailable)
        except TimeoutError:
            asked.link.abort(f"no answer for {self._silence_s:g} s")
            await self._ended.wait()
        except PandoError:
            return  # the link ended meanwhile, or an answer of any kind came
