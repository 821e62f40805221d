"""Questions and answers on one link to a store: numbers, waiting callers, and what becomes of them when the link ends.

Not here: opening links and keeping them (`pando.node.keeping`), which store to ask (`pando.node.store_client`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from pando import errors, limits
from pando.errors import Overloaded, PandoError, PrimaryUnavailable
from pando.store import protocol as wire
from pando.store.link import Link, LinkEnd, make_decoder
from pando.store.link_open import LinkHandlers

ANSWERS: Final = make_decoder(wire.StoreAnswer)
_UNSOLICITED = (wire.Topology, wire.Committed)


def _subclasses(base: type[PandoError]) -> list[type[PandoError]]:
    return [base, *(found for child in base.__subclasses__() for found in _subclasses(child))]


_BY_CODE: Final = {found.code: found for found in reversed(_subclasses(errors.PandoError))}


def error_of(refused: wire.Refused) -> PandoError:
    """Make the error that the store raised, as a class of `pando.errors` where the code has one."""
    error = _BY_CODE.get(refused.code, PandoError)(refused.message)
    error.code, error.status, error.retryable = refused.code, refused.status, refused.retryable
    return error


class AskedLink:
    """One open link to a store. `lost` makes the error for a caller whose request may have been done."""

    def __init__(self, link: Link, *, name: str, on_push: Callable[[Any], None], number: int = 0) -> None:
        """`name` says in errors whose store this is; `number` tells this link from earlier ones."""
        self.link = link
        self.number = number
        self._name = name
        self._on_push = on_push
        self._waiting: dict[int, tuple[asyncio.Future[Any], Callable[[str], PandoError]]] = {}
        self._last_id = 0
        self._is_ending = False
        """Whether the store stops: the link is ended when all questions are answered."""
        self.received = 0
        """Frames received; tells a silent link."""

    def handlers(self, on_closed: Callable[[LinkEnd], None]) -> LinkHandlers:
        """Give what treats the messages of this link; callers that wait are told before `on_closed`."""

        def closed(end: LinkEnd) -> None:
            self._fail_all(str(end))
            on_closed(end)

        return LinkHandlers(decoder=ANSWERS, on_messages=self._receive, on_closed=closed)

    @property
    def is_open(self) -> bool:
        """Whether questions can be asked."""
        return self.link.is_open and not self._is_ending

    @property
    def waiting(self) -> int:
        """Questions without an answer yet."""
        return len(self._waiting)

    def next_id(self) -> int:
        """Give the number for the next question."""
        self._last_id += 1
        return self._last_id

    async def ask(self, message: Any, lost: Callable[[str], PandoError]) -> Any:  # noqa: ANN401 - any of the unions
        """Send a question (its `id` from `next_id`) and give the answer. Raises what the store refused with.

        A caller that is cancelled withdraws the question. Raises Overloaded, PrimaryUnavailable: nothing was sent.
        """
        link = self.link
        if not self.is_open:
            raise PrimaryUnavailable(f"the link to {self._name} is down; nothing was done")
        if len(self._waiting) >= limits.LINK_REQUESTS_MAX:
            raise Overloaded(f"{limits.LINK_REQUESTS_MAX} requests wait for {self._name} already; try again later")
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        number = message.id
        self._waiting[number] = (future, lost)
        try:
            if link.is_congested:
                await link.drain()
                if future.done():
                    return await future
            link.send(message)
            return await future
        except asyncio.CancelledError:
            if self._waiting.pop(number, None) is not None:
                link.send(wire.Cancel(number))
            raise

    def tell(self, message: Any) -> None:  # noqa: ANN401 - any of the union
        """Send what is not answered; dropped when the link is down."""
        self.link.send(message)

    def _receive(self, messages: list[Any]) -> None:
        self.received += 1
        for message in messages:
            if isinstance(message, _UNSOLICITED):
                self._is_ending = self._is_ending or (type(message) is wire.Topology and message.stopping)
                self._on_push(message)
                continue
            waiting = self._waiting.pop(message.id, None)
            if waiting is None or waiting[0].done():
                continue  # the caller has gone
            if type(message) is wire.Refused:
                waiting[0].set_exception(error_of(message))
            else:
                waiting[0].set_result(message)
        if self._is_ending and not self._waiting:
            self.link.close("the store stops")

    def _fail_all(self, reason: str) -> None:
        waiting, self._waiting = self._waiting, {}
        for future, lost in waiting.values():
            if not future.done():
                future.set_exception(lost(f"the link to {self._name} broke ({reason})"))
