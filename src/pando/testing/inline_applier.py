"""The applier's redo without its process: for tests of a primary's recovery.

It uses the other SQLite library in this very process, which is sound only while nobody here has the database open, as
in recovery. Not here: anything else that an applier does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pando.clock import Clock, SystemClock
from pando.errors import NotReady
from pando.store import applier_protocol as wire
from pando.store.applier_client import ApplierClient
from pando.store.applier_jobs import Workshop, redo
from pando.store.files import FileSystem, RealFileSystem
from pando.store.logreader import LogReader
from pando.store.positions import PositionTable
from pando.store.replica import EntrySource
from pando.store.steps import run_steps

T = TypeVar("T")


class InlineApplier(ApplierClient):
    """An `ApplierClient` that redoes logs by itself and refuses all else."""

    def __init__(self, positions: PositionTable, *, fs: FileSystem | None = None, clock: Clock | None = None) -> None:
        super().__init__(on_notice=lambda _: None, on_connected=lambda: None)
        self._answers: list[Any] = []
        files = fs or RealFileSystem()

        def open_log(directory: Path) -> EntrySource:
            return LogReader.open(directory, files)

        self._shop = Workshop(
            fs=files,
            positions=positions,
            clock=clock or SystemClock(),
            open_log=open_log,
            send=self._answers.append,
        )

    async def ask(self, request: Any, answer: type[T]) -> T:  # noqa: ANN401 - as in the class above
        """Redo a log."""
        if not isinstance(request, wire.Redo):
            raise NotReady("there is no applier here")
        run_steps(redo(self._shop, request))
        found = self._answers.pop()
        assert isinstance(found, answer)
        return found
