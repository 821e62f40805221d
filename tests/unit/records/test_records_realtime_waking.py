"""Turns of streams that have something to send."""

import asyncio

import pytest

from pando import limits
from pando.records.realtime.waking import AT_ONCE, Waking
from pando.testing.waiting import turns


class Loop:
    """Calls back when it is told to."""

    def __init__(self):
        self.callbacks = []
        self.waking = Waking(self.callbacks.append)

    def turn(self):
        callbacks, self.callbacks[:] = list(self.callbacks), []
        for callback in callbacks:
            callback()

    def add(self, count):
        events = [asyncio.Event() for _ in range(count)]
        for event in events:
            self.waking.add(event)
        return events


@pytest.fixture
def loop():
    return Loop()


def awake(events):
    return [event.is_set() for event in events].count(True)


def test_streams_have_their_turns_in_order_some_at_a_time(loop):
    events = loop.add(2 * AT_ONCE + 1)
    for expected in (0, AT_ONCE, 2 * AT_ONCE, 2 * AT_ONCE + 1):
        assert [event.is_set() for event in events] == [True] * expected + [False] * (len(events) - expected)
        loop.turn()
    assert loop.callbacks == []


def test_a_stream_waits_once_and_may_wait_again_afterwards(loop):
    first, *others = loop.add(AT_ONCE)
    loop.waking.add(first)
    assert len(loop.callbacks) == 1
    loop.turn()
    assert awake([first, *others]) == AT_ONCE and loop.callbacks == []
    first.clear()
    loop.waking.add(first)
    loop.turn()
    assert first.is_set()


def test_who_is_far_ahead_waits_until_all_had_a_turn(loop, monkeypatch):
    monkeypatch.setattr(limits, "REALTIME_AHEAD_EVENTS_MAX", 2 * AT_ONCE)

    async def scenario():
        await loop.waking.room()
        events = loop.add(AT_ONCE + 1)
        await loop.waking.room()
        for event in events:
            loop.waking.add(event)
        waiting = asyncio.ensure_future(loop.waking.room())
        await turns()
        loop.turn()
        await turns()
        assert not waiting.done()
        loop.turn()
        await waiting
        assert awake(events) == len(events)
        await loop.waking.room()

    asyncio.run(scenario())
