"""Runs a coroutine up to where it first has to wait: what waits for nothing needs no task of its own.

Not here: which coroutines may be run so. Until it waits, one sees the task of who began it, and later that of who goes
on with it: so it must not have entered `asyncio.timeout` before.
"""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


def begun(coroutine: Coroutine[Any, Any, T]) -> T | Coroutine[Any, Any, T]:
    """Run until something has to be waited for; give the result, or the rest. Raises what the coroutine raises."""
    try:
        first = coroutine.send(None)
    except StopIteration as ended:
        result: T = ended.value
        return result
    return _rest(coroutine, first)


async def _rest(coroutine: Coroutine[Any, Any, T], first: object) -> T:
    return await _Begun(coroutine, first)


class _Begun(Generic[T]):
    """Goes on with a coroutine that has begun: passes on what it waits for, and what comes back."""

    __slots__ = ("_coroutine", "_first")

    def __init__(self, coroutine: Coroutine[Any, Any, T], first: object) -> None:
        self._coroutine = coroutine
        self._first: object | None = first

    def __await__(self) -> Generator[Any, Any, T]:
        """Be what `await` steps through."""
        return self

    def __iter__(self) -> _Begun[T]:
        """Be its own iterator."""
        return self

    def __next__(self) -> object:
        """Go on."""
        return self.send(None)

    def send(self, came: object) -> object:
        """Go on with what came; raises StopIteration with the result."""
        first, self._first = self._first, None
        return self._coroutine.send(came) if first is None else first

    def throw(self, *error: Any) -> object:  # noqa: ANN401 - as generators have it
        """Tell of an exception, such as a cancellation."""
        return self._coroutine.throw(*error)

    def close(self) -> None:
        """End it."""
        self._coroutine.close()
