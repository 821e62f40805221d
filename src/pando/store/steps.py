"""Work in slices: a generator that does a bit, yields, and gives its result at the end; other work runs in between.

Not here: what the work is, and who runs it (`pando.store.applier_session`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from typing import Final, TypeVar

from pando import limits

T = TypeVar("T")

Steps = Generator[None, None, None]
"""Work in slices, without a result."""

SLICE_BYTES: Final = 256 * limits.KIB
"""Page bytes handled between two steps: about a millisecond when they are compressed and written."""
_JOIN_S: Final = 0.001


def run_steps(steps: Generator[None, None, T]) -> T:
    """Run steps to their end at once and give their result."""
    try:
        while True:
            next(steps)
    except StopIteration as end:
        result: T = end.value
        return result


def in_background(action: Callable[[], None]) -> Steps:
    """Run one blocking action (an fsync) in a thread while others go on; raises what it raises.

    When the steps are given up, the action is waited for: what it works on is about to be closed.
    """
    errors: list[BaseException] = []

    def run() -> None:
        try:
            action()
        except BaseException as error:  # noqa: BLE001 - handed to the caller below
            errors.append(error)

    thread = threading.Thread(target=run, name="applier-background", daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            yield
            thread.join(_JOIN_S)
    finally:
        thread.join()
    if errors:
        raise errors[0]
