"""The applier as a real process: a log on disk, real positions, readers in other processes, kill -9."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pando.store import applier_protocol as wire
from pando.store.blocking_link import BlockingLink
from pando.store.commitlog import CommitLog
from pando.store.files import RealFileSystem
from pando.store.handshake import HANDSHAKE_DECODER, NONCE_BYTES, Acceptor
from pando.store.link import make_decoder
from pando.store.positions import PositionTable

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "store"))
from applier_world import SCHEMA, History, Primary

pytestmark = pytest.mark.slow

APPLIER = """
import sys
from pathlib import Path
from pando.store.applier import ApplierOptions, run_applier
sock, directory, positions, alive = sys.argv[1:]
run_applier(ApplierOptions(
    socket_path=sock, directory=Path(directory), positions_path=Path(positions), alive_fd=int(alive)))
"""

READER = """
import sys, apsw
path = sys.argv[1]
print("ready", flush=True)
connection = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY)
connection.set_busy_timeout(0)
rounds, seen, last = 0, set(), -1
while True:
    connection.execute("BEGIN")
    version, low, high = connection.execute("SELECT version, low, high FROM state").fetchone()
    counted, total = connection.execute("SELECT count(*), coalesce(sum(length(body)), 0) FROM item").fetchone()
    again = connection.execute("SELECT version, low, high FROM state").fetchone()
    if (counted, total) != (low, high) or again != (version, low, high):
        sys.exit(f"torn: version {version}, {low} {high}, but {counted} {total}, again {again}")
    if version < last:
        sys.exit(f"time went back from {last} to {version}")
    if rounds % 50 == 0:
        # FTS5 checks with what it remembers of the index unless the index was read in this transaction.
        connection.execute("SELECT count(*) FROM words WHERE words MATCH 'root'").fetchall()
        found = connection.execute("PRAGMA quick_check").fetchall()
        if found != [("ok",)]:
            sys.exit(f"quick_check: {found[:3]}")
    connection.execute("COMMIT")
    rounds, last = rounds + 1, version
    seen.add(version)
    if version >= int(sys.argv[2]):
        break
print(rounds, len(seen))
"""


class Store:
    """Plays the store: listens, answers the handshake, talks to one applier process at a time."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.sockets = tempfile.TemporaryDirectory(prefix="pando-test-")
        self.path = str(Path(self.sockets.name) / "s")
        self.listening = socket.socket(socket.AF_UNIX)
        self.listening.bind(self.path)
        self.listening.listen()
        self.listening.settimeout(20)
        self.fs = RealFileSystem()
        self.positions = PositionTable.create(directory / "positions", 4)
        self.positions.claim(0, 1)
        self.log = CommitLog.open(directory / "log" / "r", self.fs)
        self.alive_read, self.alive_write = os.pipe()
        self.process: subprocess.Popen[bytes] | None = None
        self.link: BlockingLink | None = None
        self.sock: socket.socket | None = None
        self.applied: wire.Applied | None = None
        self.number = 0

    def start(self) -> None:
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                APPLIER,
                self.path,
                str(self.directory),
                str(self.directory / "positions"),
                str(self.alive_read),
            ],
            pass_fds=(self.alive_read,),
        )
        self.accept()

    def accept(self) -> None:
        self.drop_link()
        self.sock, _ = self.listening.accept()
        self.sock.settimeout(20)
        self.link = BlockingLink(self.sock, HANDSHAKE_DECODER)
        acceptor = Acceptor(node="n", nonce=bytes(NONCE_BYTES))
        while acceptor.peer is None:
            for message in self.receive():
                self.link.send([acceptor.receive(message)])
        assert acceptor.peer.kind == "applier"
        self.link.decoder = make_decoder(wire.ApplierAnswer)

    def drop_link(self) -> None:
        if self.link is not None:
            self.link.close()
            self.link = None

    def receive(self) -> list[Any]:
        assert self.sock is not None
        assert self.link is not None
        self.sock.recv(1, socket.MSG_PEEK)  # waits
        return self.link.receive()

    def until(self, kind: type, txid: int = 0) -> Any:
        while True:
            for answer in self.receive():
                if isinstance(answer, (wire.JobFailed, wire.Diverged, wire.ForeignWrite)) and type(answer) is not kind:
                    raise AssertionError(answer)
                if isinstance(answer, wire.Applied):
                    self.applied = answer
                if type(answer) is kind and getattr(answer, "txid", 0) >= txid:
                    return answer

    def say(self, *messages: Any) -> None:
        assert self.link is not None
        self.link.send(list(messages))

    def open(self) -> wire.ReplicaOpened:
        self.number += 1
        path = self.directory / "r.db"
        self.say(wire.OpenReplica(self.number, "r", str(path), str(self.directory / "log" / "r"), 0, 1))
        opened = self.until(wire.ReplicaOpened)
        assert opened.is_known
        return opened

    def append(self, primary: Primary) -> int:
        entry = primary.capture(keep=False)
        assert entry is not None
        self.log.append(entry)
        self.log.sync()
        return entry.max_txid

    def close(self) -> None:
        os.close(self.alive_write)
        if self.process is not None:
            assert self.process.wait(timeout=20) == 0
        os.close(self.alive_read)
        self.drop_link()
        self.listening.close()
        self.log.close()
        self.positions.close()
        self.sockets.cleanup()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path)
    yield store
    store.close()


def stateful_primary(path: Path, page_size: int = 4096) -> Primary:
    """A database whose table `state` says what must be in `item`: a reader can tell a torn state."""
    primary = Primary(path, page_size=page_size, auto_vacuum=1)
    primary.sql(SCHEMA)
    primary.sql("CREATE TABLE state(version INTEGER, low INTEGER, high INTEGER)")
    primary.sql("INSERT INTO state VALUES(0, 0, 0)")
    return primary


def one_version(primary: Primary, history: History, version: int) -> None:
    if version % 25 == 0:
        primary.sql("VACUUM")
    primary.sql("BEGIN")
    for _ in range(2):
        history.chance.choice(
            (
                history.do_insert,
                history.do_delete_some,
                history.do_update,
                history.do_words,
                history.do_blob,
                history.do_ddl,
            )
        )()
    if version % 10 == 0:
        history.do_delete_most()
    primary.sql(
        "UPDATE state SET version = ?, low = (SELECT count(*) FROM item), "
        "high = (SELECT coalesce(sum(length(body)), 0) FROM item)",
        (version,),
    )
    primary.sql("COMMIT")


def test_readers_under_apply_see_whole_states_only(store: Store, tmp_path: Path) -> None:
    primary = stateful_primary(tmp_path / "p.db")
    store.start()
    store.open()
    store.say(wire.ApplyTo("r", store.append(primary)))
    store.until(wire.Applied)
    last = 150
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", READER, str(tmp_path / "r.db"), str(last)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    for reader in readers:
        assert reader.stdout is not None
        assert reader.stdout.readline() == b"ready\n"
    history = History(primary, 5)
    for version in range(1, last + 1):
        one_version(primary, history, version)
        txid = store.append(primary)
        store.say(wire.ApplyTo("r", txid))
        if version % 7:  # else several are merged
            store.until(wire.Applied, txid)
    if store.applied is None or store.applied.txid < primary.log.last.txid:
        store.until(wire.Applied, primary.log.last.txid)
    for reader in readers:
        out, errors = reader.communicate(timeout=60)
        assert reader.returncode == 0, errors
        rounds, versions = map(int, out.split())
        assert rounds >= versions >= 2
    assert store.positions.visible(0) == (1, primary.log.last.txid)
    assert store.positions.about(0) == (1, primary.log.last.txid)
    primary.close()


def test_killed_at_any_moment_it_goes_on_from_a_commit(store: Store, tmp_path: Path) -> None:
    primary = stateful_primary(tmp_path / "p.db", page_size=1024)
    history = History(primary, 6)
    store.start()
    store.open()
    store.say(wire.ApplyTo("r", store.append(primary)))
    seen = 0
    for version in range(1, 13):
        for step in range(8):
            one_version(primary, history, version * 100 + step)
            store.say(wire.ApplyTo("r", store.append(primary)))
        if version % 3:
            store.until(wire.Applied)
        assert store.process is not None
        store.process.send_signal(signal.SIGKILL)
        store.process.wait()
        store.start()
        opened = store.open()
        assert opened.txid >= seen
        seen = opened.txid
    if seen < primary.log.last.txid:
        store.say(wire.ApplyTo("r", primary.log.last.txid))
        assert wire.position_of(store.until(wire.Applied, primary.log.last.txid)) == primary.log.last
    store.number += 1
    store.say(wire.Scan(store.number, "r", str(tmp_path / "r.db")))
    scanned = store.until(wire.Scanned)
    assert (scanned.checksum, scanned.bad_pages) == (primary.log.last.checksum, ())
    primary.close()


def test_a_new_store_starts_from_nothing(store: Store, tmp_path: Path) -> None:
    primary = stateful_primary(tmp_path / "p.db")
    store.start()
    store.open()
    store.say(wire.ApplyTo("r", store.append(primary)))
    store.until(wire.Applied)
    store.accept()  # the old link ends, the applier dials again
    assert store.open().txid == 1
    primary.sql("UPDATE state SET version = 1")
    store.say(wire.ApplyTo("r", store.append(primary)))
    assert store.until(wire.Applied).txid == 2
    primary.close()
