"""The applier process: writes pages into a node's database files for its store process, and reads whole files for it.

The only process that uses `sqlean` (for `sqlite_dbpage`), and it never loads the other SQLite library: two of them in
one process on one file would drop each other's locks. It connects to the store, does what the store asks, and starts
from nothing when the store was restarted. What it does and why it is safe: `APPLIER.md`.
"""

from __future__ import annotations

import select
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pando.clock import Clock, SystemClock, random_bytes
from pando.errors import CorruptionError, NotReady, StorageError
from pando.store import applier_protocol as wire
from pando.store.applier_session import Session
from pando.store.blocking_link import BlockingLink, LinkLost, dial
from pando.store.files import FileSystem, RealFileSystem
from pando.store.handshake import NONCE_BYTES, Dialer, LinkKind
from pando.store.layout import Layout
from pando.store.link import make_decoder
from pando.store.logreader import LogReader
from pando.store.positions import PositionTable

_RECONNECT_S_MIN: Final = 0.02
_RECONNECT_S_MAX: Final = 1.0
_DECODER: Final = make_decoder(wire.ApplierRequest)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplierOptions:
    """What the applier is started with. `alive_fd`: a pipe's read end; readable or at its end means "exit"."""

    socket_path: str
    directory: Path
    positions_path: Path
    node: str = ""
    alive_fd: int | None = None
    clock: Clock = field(default_factory=SystemClock)


def run_applier(options: ApplierOptions) -> None:
    """Serve stores, one after the other, until the supervisor is gone."""
    fs = RealFileSystem()
    pause_s = _RECONNECT_S_MIN
    while True:
        link = _connect(options)
        if link is not None:
            pause_s = _RECONNECT_S_MIN
            if _serve(options, fs, link):
                return
        if _is_alone(options.alive_fd, pause_s):
            return
        pause_s = min(pause_s * 2, _RECONNECT_S_MAX)


def _connect(options: ApplierOptions) -> BlockingLink | None:
    """Dial the store; None when it is not there."""
    dialer = Dialer(kind=LinkKind.APPLIER, node=options.node, nonce=random_bytes(NONCE_BYTES))
    try:
        return dial(options.socket_path, dialer, _DECODER)
    except NotReady:
        return None


def _serve(options: ApplierOptions, fs: FileSystem, link: BlockingLink) -> bool:
    """Serve one link to its end; True when the supervisor is gone."""
    try:
        positions = PositionTable.attach(options.positions_path)
    except (StorageError, CorruptionError):
        link.close()
        return False
    try:
        session = Session(
            link=link,
            alive_fd=options.alive_fd,
            directory=Layout(options.directory).evidence,
            fs=fs,
            clock=options.clock,
            positions=positions,
            open_log=lambda log_directory: LogReader.open(log_directory, fs),
        )
        session.run()
    except LinkLost:
        return False
    finally:
        link.close()
        positions.close()
    return True


def _is_alone(alive_fd: int | None, pause_s: float) -> bool:
    """Wait; True when the supervisor is gone."""
    poll = select.poll()
    if alive_fd is not None:
        poll.register(alive_fd, select.POLLIN)
    return bool(poll.poll(round(pause_s * 1000)))
