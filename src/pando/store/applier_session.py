"""The applier's work while one link to the store lasts: takes requests, applies what is due, steps the jobs.

One thread, one loop. Applying comes first; between two applies each job gets a slice of about a millisecond. Not here:
connecting (`pando.store.applier`), the jobs themselves (`pando.store.applier_jobs`).
"""

from __future__ import annotations

import select
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pando import limits
from pando.clock import Clock
from pando.errors import NotReady, PandoError
from pando.store import applier_jobs as jobs
from pando.store import applier_protocol as wire
from pando.store.applier_jobs import Held, Workshop
from pando.store.apply import LOG_GAP
from pando.store.blocking_link import BlockingLink
from pando.store.evidence import save_evidence
from pando.store.files import FileSystem
from pando.store.pages import FILE_BUSY
from pando.store.replica import EntrySource, ReplicaState, is_transient
from pando.store.steps import Steps
from pando.types import TXID

if TYPE_CHECKING:
    from pando.store.positions import PositionTable

RETRY_S: Final = 0.25
"""Pause before an apply that failed for a reason outside is tried again."""
LOCK_RETRY_S: Final = 0.01
"""Pause before the write lock is asked for again that another program holds."""
IDLE_S: Final = 0.05
"""After such a pause without work, WALs are moved into their files."""
IDLE_CHECKPOINT_PAGES: Final = limits.WAL_PAGES_CHECKPOINT // 4
"""Pages in the WAL from which an idle moment is used for a checkpoint."""
_JOBS_MAX: Final = 1024
_EVIDENCE_SCAN_PAGES: Final = 65_536
"""Pages of the file that are compared after a divergence, for the evidence: about 0.3 s."""

_JOB_OF: Final[dict[type, Callable[[Workshop, Any], Steps]]] = {
    wire.OpenReplica: jobs.open_replica,
    wire.WriteSnapshot: jobs.write_snapshot,
    wire.InstallSnapshot: jobs.install_snapshot,
    wire.Redo: jobs.redo,
    wire.Scan: jobs.scan,
    wire.CloseReplica: jobs.close_replica,
    wire.Drop: jobs.drop,
    wire.CheckpointReplica: jobs.checkpoint_replica,
}
_ENDS_JOBS: Final = (wire.OpenReplica, wire.CloseReplica, wire.Drop)
"""Requests before which jobs on the same replica are cancelled, but for those that look at the file by themselves."""
_LOOKS_ONLY: Final = (wire.WriteSnapshot, wire.Scan)


@dataclass(frozen=True, slots=True)
class _Job:
    database: str
    steps: Steps
    uses_replica: bool = True


class Session:
    """Serves one link. `run` returns when the supervisor is gone and raises LinkLost when the store is."""

    def __init__(
        self,
        *,
        link: BlockingLink,
        alive_fd: int | None,
        directory: Path,
        fs: FileSystem,
        clock: Clock,
        positions: PositionTable,
        open_log: Callable[[Path], EntrySource],
    ) -> None:
        """`alive_fd`: readable when this process must end; `directory`: where evidence is kept."""
        self._link = link
        self._alive_fd = alive_fd
        self._evidence = directory
        self._fs = fs
        self._clock = clock
        self._outbox: list[Any] = []
        self._shop = Workshop(fs=fs, positions=positions, clock=clock, open_log=open_log, send=self._outbox.append)
        self._due: set[str] = set()
        """Replicas that have something to apply, to lock or to look into."""
        self._with_wal: set[str] = set()
        """Replicas whose WAL is worth a checkpoint in an idle moment."""
        self._jobs: dict[int, _Job] = {}
        self._own_jobs = 0

    # -- the loop --

    def run(self) -> None:
        """Serve until the supervisor is gone; raises LinkLost."""
        poll = select.poll()
        poll.register(self._link.fileno(), select.POLLIN)
        if self._alive_fd is not None:
            poll.register(self._alive_fd, select.POLLIN)
        try:
            self.turn(is_idle=False)  # the store may have said something right after its welcome
            while True:
                ready = poll.poll(self._wait_ms())
                if any(fd == self._alive_fd for fd, _ in ready):
                    return
                self.turn(is_idle=not ready)
        finally:
            self.close()

    def _wait_ms(self) -> int | None:
        if self._jobs:
            return 0
        if self._due:
            now = self._clock.monotonic()
            return max(0, round(1000 * min(self._ready_at(name) - now for name in self._due)))
        return round(1000 * IDLE_S) if self._with_wal else None

    def _ready_at(self, name: str) -> float:
        held = self._shop.held.get(name)
        return held.retry_at if held is not None else 0.0

    def turn(self, *, is_idle: bool) -> None:
        """Do one round: messages, applies, one slice of each job, checkpoints when idle."""
        older_jobs = list(self._jobs)
        for message in self._link.receive():
            self._receive(message)
        if self._due:
            for name in list(self._due):
                self._advance(name)
        if older_jobs:
            for number in older_jobs:
                self._step(number)
        elif is_idle and self._with_wal:
            self._tidy()
        self._flush()

    def _flush(self) -> None:
        if self._outbox:
            messages = self._outbox.copy()
            self._outbox.clear()
            self._link.send(messages)

    def close(self) -> None:
        """Give up all jobs and close all files."""
        for job in self._jobs.values():
            job.steps.close()
        self._jobs.clear()
        for name in list(self._shop.held):
            self._shop.release(name)

    # -- requests and jobs --

    def _receive(self, message: Any) -> None:  # noqa: ANN401 - any request of the union
        if type(message) is wire.ApplyTo:
            held = self._shop.held.get(message.database)
            if held is not None:  # else it was closed while the message was on its way
                held.target = max(held.target, message.txid)
                self._due.add(message.database)
            return
        if type(message) is wire.CancelJob:
            self._cancel(message.id)
            return
        if isinstance(message, _ENDS_JOBS):
            for number, job in list(self._jobs.items()):
                if job.database == message.database and job.uses_replica:
                    self._cancel(number)
        if len(self._jobs) >= _JOBS_MAX:
            self._fail(message.id, message.database, NotReady("the applier has too many jobs; try again later"))
            return
        steps = _JOB_OF[type(message)](self._shop, message)
        self._jobs[message.id] = _Job(message.database, steps, not isinstance(message, _LOOKS_ONLY))
        self._step(message.id)  # its first slice at once: what comes next may rely on it, and the store waits for a pin
        self._flush()

    def _cancel(self, number: int) -> None:
        job = self._jobs.pop(number, None)
        if job is not None:
            job.steps.close()
            self._fail(number, job.database, NotReady("the request was cancelled", code="CANCELLED"))

    def _fail(self, number: int, database: str, error: PandoError) -> None:
        if number > 0:  # jobs of our own have numbers below zero, nobody waits for them
            self._outbox.append(wire.JobFailed(number, database, error.code, error.message, error.retryable))

    def _job_failed(self, number: int, database: str, error: PandoError) -> None:
        """Tell the store; a job of our own has no request to answer, so it is as if an apply had failed."""
        held = self._shop.held.get(database)
        if number > 0:
            self._fail(number, database, error)
        elif held is not None and is_transient(error):
            self._stall(held, error, RETRY_S)
        elif held is not None:
            self._diverge(held, error)

    def _start_own(self, database: str, steps: Steps) -> None:
        self._own_jobs -= 1
        self._jobs[self._own_jobs] = _Job(database, steps)

    def _step(self, number: int) -> None:
        job = self._jobs.get(number)
        if job is None:  # cancelled by a job before it in this round
            return
        database = job.database
        try:
            next(job.steps)
            return
        except StopIteration:
            pass
        except PandoError as error:
            self._job_failed(number, database, error)
        self._jobs.pop(number, None)
        held = self._shop.held.get(database)
        if held is not None:
            self._due.add(database)
            self._note_wal(database, held)

    # -- applying --

    def _advance(self, name: str) -> None:
        """Do the next thing for one replica that is due."""
        held = self._shop.held.get(name)
        if held is None or held.is_busy:
            self._due.discard(name)
            return
        if held.retry_at and held.retry_at > self._clock.monotonic():
            return
        replica = held.replica
        if not replica.relock():
            self._stall(held, NotReady("another program holds the file's write lock", code=FILE_BUSY), LOCK_RETRY_S)
            return
        if held.stalled_code == FILE_BUSY:
            held.stalled_code = ""
        if replica.state is ReplicaState.READY and replica.position.txid < held.target:
            self._apply(name, held)
        if replica.state is ReplicaState.FOREIGN:
            self._start_own(name, jobs.inspect_foreign_write(self._shop, held))
            self._due.discard(name)
        elif replica.state is not ReplicaState.READY or self._is_done(held):
            self._due.discard(name)

    def _is_done(self, held: Held) -> bool:
        file = held.replica.file
        return held.replica.position.txid >= held.target and (file is None or file.is_locked)

    def _apply(self, name: str, held: Held) -> None:
        replica = held.replica
        try:
            at = replica.apply_next(held.log, TXID(held.target))
        except PandoError as error:
            if is_transient(error):
                self._stall(held, error, RETRY_S)
            else:
                self._diverge(held, error)
            return
        held.retry_at, held.stalled_code = 0.0, ""
        self._outbox.append(wire.Applied(name, at.epoch, at.txid, at.checksum))
        self._flush()
        if replica.unmoved_pages >= IDLE_CHECKPOINT_PAGES:
            self._note_wal(name, held)

    def _stall(self, held: Held, error: PandoError, pause_s: float) -> None:
        held.retry_at = self._clock.monotonic() + pause_s
        if held.stalled_code != error.code:
            held.stalled_code = error.code
            self._outbox.append(wire.ApplyStalled(held.replica.database, error.code, error.message))

    def _diverge(self, held: Held, error: PandoError) -> None:
        """Stop applying, keep what explains it, tell the store."""
        replica = held.replica
        replica.state = ReplicaState.DIVERGED
        bad: list[int] = []
        if error.code != LOG_GAP and replica.file is not None:
            try:
                bad = [int(pgno) for pgno in replica.differing_pages(wire.PAGES_NAMED_MAX, _EVIDENCE_SCAN_PAGES)]
            except PandoError as unreadable:
                error = type(error)(f"{error.message}; the file cannot be read either: {unreadable.message}")
        where = save_evidence(
            self._fs,
            self._evidence,
            database=replica.database,
            wall_ms=self._clock.wall_ms(),
            reason=error.message,
            position=replica.position,
            bad_pages=bad,
            entries=replica.in_hand,
        )
        replica.in_hand = ()
        at = replica.position
        self._outbox.append(
            wire.Diverged(
                replica.database, at.epoch, at.txid, at.checksum, error.code, error.message, where, tuple(bad)
            )
        )

    # -- checkpoints --

    def _note_wal(self, name: str, held: Held) -> None:
        """Checkpoint now if the WAL is long, in an idle moment if it is not short."""
        pages = held.replica.unmoved_pages
        if pages >= limits.WAL_PAGES_CHECKPOINT:
            self._checkpoint(name, held)
        elif pages >= IDLE_CHECKPOINT_PAGES:
            self._with_wal.add(name)

    def _tidy(self) -> None:
        name = self._with_wal.pop()
        held = self._shop.held.get(name)
        if held is not None:
            self._checkpoint(name, held)

    def _checkpoint(self, name: str, held: Held) -> None:
        self._with_wal.discard(name)
        if held.is_busy:
            return
        try:
            held.replica.checkpoint()
        except PandoError as error:
            # The WAL just stays long; the next one is due after as many pages again.
            held.replica.unmoved_pages = 0
            self._outbox.append(wire.ApplyStalled(name, error.code, f"checkpoint: {error.message}"))
        file = held.replica.file
        if held.replica.state is ReplicaState.FOREIGN or (file is not None and not file.is_locked):
            self._due.add(name)
