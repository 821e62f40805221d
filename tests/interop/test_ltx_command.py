"""The format's own programs read what we write, and we read what they write.

`ltx` checks and applies stream files (it compares rolling checksums with the whole database); `litestream`, newest of
v0.5 and in long runs the oldest too, restores directories of backup files.
"""

import hashlib
import io
import os
import sqlite3
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from gotools import need_tool, run

import pando
from pando.cli.ltxfiles import apply_files, database_facts, describe_file
from pando.ltx import (
    Encoding,
    LtxDecoder,
    LtxEncoder,
    LtxHeader,
    compact_ltx,
    decode_ltx,
    encode_ltx,
    normalise_page_one,
    rolling_checksum,
)
from pando.types import EMPTY_CHECKSUM, format_checksum, format_txid

pytestmark = [pytest.mark.interop, pytest.mark.slow, pytest.mark.timeout(900)]

LTX_VERSION = "v0.5.3"
LITESTREAM_VERSIONS = ("v0.5.16", pytest.param("v0.5.0", marks=pytest.mark.full))
TIME_MS = 1_760_000_000_000
GOLDEN = Path(__file__).parents[1] / "golden" / "ltx" / "ok"

STATEMENTS = (
    "CREATE TABLE t(a INTEGER PRIMARY KEY, b)",
    "CREATE INDEX i ON t(b)",
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60) "
    "INSERT INTO t SELECT i, hex(randomblob(500)) FROM n",
    "UPDATE t SET b = 'x' WHERE a % 7 = 0",
    "DELETE FROM t WHERE a > 12",
    "VACUUM",
    "INSERT INTO t VALUES(1000, randomblob(30000))",
    "UPDATE t SET b = zeroblob(100) WHERE a = 1000",
    "INSERT INTO t VALUES(1001, randomblob(90000))",
)


class History:
    """A database's commits: the whole file after each (page 1 normalised), and LTX files of both encodings."""

    def __init__(self, folder, page_size):
        self.folder, self.page_size = folder, page_size
        self.states, self.checksums = [], []
        self.files = {encoding: [] for encoding in Encoding}
        for encoding in Encoding:
            for level in ("0", "1", "9"):
                (folder / encoding.value / "ltx" / level).mkdir(parents=True)
        self._write()

    def _write(self):
        path = self.folder / "source.db"
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute(f"PRAGMA page_size={self.page_size}")
        before, checksum = [], EMPTY_CHECKSUM
        for txid, statement in enumerate(STATEMENTS, 1):
            connection.execute(statement)
            data, size = path.read_bytes(), self.page_size
            now = [data[at : at + size] for at in range(0, len(data), size)]
            now[0] = normalise_page_one(now[0])
            after = rolling_checksum(enumerate(now, 1), size)
            self._write_commit(txid, before, now, checksum, after)
            self.states.append(b"".join(now))
            self.checksums.append(after)
            before, checksum = now, after
        connection.close()

    def _write_commit(self, txid, before, now, pre, post):
        changed = [(n, page) for n, page in enumerate(now, 1) if n > len(before) or before[n - 1] != page]
        header = LtxHeader(
            page_size=self.page_size,
            commit=len(now),
            min_txid=txid,
            max_txid=txid,
            timestamp_ms=TIME_MS + 1000 * txid,
            pre_apply_checksum=0 if txid == 1 else pre,
        )
        for encoding in Encoding:
            data = encode_ltx(header, changed, post, encoding=encoding, previous_commit=len(before))
            self.files[encoding].append(self.put(encoding, 0, txid, txid, data))

    def put(self, encoding, level, low, high, data):
        folder = self.folder / encoding.value / "ltx" / str(level)
        path = folder / f"{format_txid(low)}-{format_txid(high)}.ltx"
        path.write_bytes(data)
        moment = TIME_MS / 1000 + high
        os.utime(path, (moment, moment))
        return path

    def compact(self, low, high, encoding, level):
        """Merge the commits low to high into one file."""
        out = io.BytesIO()
        inputs = [LtxDecoder(io.BytesIO(path.read_bytes()).read) for path in self.files[encoding][low - 1 : high]]
        compact_ltx(inputs, out.write, encoding=encoding)
        return self.put(encoding, level, low, high, out.getvalue())


@pytest.fixture(scope="module", params=[512, 4096, 65536])
def history(request, tmp_path_factory):
    return History(tmp_path_factory.mktemp("history"), request.param)


@pytest.fixture(scope="module")
def ltx():
    return need_tool("ltx", LTX_VERSION)


@pytest.fixture(scope="module", params=LITESTREAM_VERSIONS)
def litestream(request):
    return need_tool("litestream", request.param)


# -- ltx --------------------------------------------------------------------------------------------------------------


def test_ltx_verifies_dumps_and_lists_our_files(ltx, history):
    for encoding in Encoding:
        files = history.files[encoding]
        run(ltx, "verify", *files)
        lines = run(ltx, "list", "-tsv", *files).stdout.strip().splitlines()[1:]
        for line, path in zip(lines, files, strict=True):
            facts, dumped = describe_file(path), run(ltx, "dump", path).stdout
            assert line.split("\t")[:4] == [facts.min_txid, facts.max_txid, str(facts.commit), str(facts.page_count)]
            assert facts.file_checksum in dumped
            assert facts.post_apply_checksum in dumped


def test_ltx_applies_our_stream_files(ltx, history, tmp_path):
    """After every commit the database is ours byte for byte, and so is its checksum."""
    target = tmp_path / "o.db"
    for path, state, checksum in zip(history.files[Encoding.STREAM], history.states, history.checksums, strict=True):
        run(ltx, "apply", "-db", target, path)
        assert target.read_bytes() == state
        assert run(ltx, "checksum", target).stdout.strip() == format_checksum(checksum)
        assert database_facts(target).checksum == format_checksum(checksum)


def test_ltx_refuses_a_stream_file_out_of_turn(ltx, history, tmp_path):
    """It does look at the rolling checksums that we write."""
    target = tmp_path / "o.db"
    files = history.files[Encoding.STREAM]
    run(ltx, "apply", "-db", target, files[0])
    assert run(ltx, "apply", "-db", target, files[2], check=False).returncode != 0


def test_ltx_applies_what_we_compacted(ltx, history, tmp_path):
    count = len(STATEMENTS)
    for number, cuts in enumerate([(1, count), (1, 3, 6, count), (1, 2, count)]):
        starts = [cuts[0], *(cut + 1 for cut in cuts[1:-1])]
        ends = cuts[1:]
        files = [history.compact(low, high, Encoding.STREAM, 1) for low, high in zip(starts, ends, strict=True)]
        target = tmp_path / f"{number}.db"
        run(ltx, "verify", *files)
        run(ltx, "apply", "-db", target, *files)
        assert target.read_bytes() == history.states[-1]


def test_ltx_verifies_golden_files(ltx):
    files = [path for path in GOLDEN.glob("*.ltx") if path.stem != "backup-frames-without-checksum"]
    run(ltx, "verify", *files)


def test_ltx_takes_files_written_without_optional_libraries(ltx, history, tmp_path):
    program = f"""
import sys
sys.path.insert(0, {str(Path(pando.__file__).parents[1])!r})
from pando.ltx import *
from pando.ltx.lz4codec import HAS_LZ4
assert not HAS_LZ4
target = sys.argv[1]
for number, name in enumerate(sys.argv[2:]):
    file = decode_ltx(open(name, "rb").read())
    for encoding in Encoding:
        data = encode_ltx(file.header, file.pages, file.trailer.post_apply_checksum, encoding=encoding)
        open(f"{{target}}/{{encoding.value}}-{{number}}.ltx", "wb").write(data)
"""
    files = history.files[Encoding.STREAM][:4]
    subprocess.run([sys.executable, "-I", "-S", "-c", program, tmp_path, *files], check=True)
    run(ltx, "verify", *tmp_path.glob("backup-*.ltx"))
    target = tmp_path / "o.db"
    run(ltx, "apply", "-db", target, *sorted(tmp_path.glob("stream-*.ltx")))
    assert target.read_bytes() == history.states[3]


def test_we_read_what_ltx_encodes(ltx, history, tmp_path):
    source = history.folder / "source.db"
    made = tmp_path / "made.ltx"
    run(ltx, "encode-db", "-o", made, source)
    file = decode_ltx(made.read_bytes())
    assert b"".join(page for _, page in file.pages) == source.read_bytes()
    assert run(ltx, "checksum", source).stdout.strip() == database_facts(source).checksum


# -- litestream -------------------------------------------------------------------------------------------------------


def restore(litestream, folder, target, *options):
    run(litestream, "restore", *options, "-o", target, f"file://{folder}")
    return target.read_bytes()


@pytest.fixture
def backup(history):
    """A backup folder with level 0 only; what tests add to the other levels is removed."""
    folder = history.folder / Encoding.BACKUP.value
    yield folder
    for level in ("1", "9"):
        for path in (folder / "ltx" / level).iterdir():
            path.unlink()


def test_litestream_restores_every_transaction(litestream, history, backup, tmp_path):
    for txid, state in enumerate(history.states, 1):
        assert restore(litestream, backup, tmp_path / f"{txid}.db", "-txid", format_txid(txid)) == state
    assert restore(litestream, backup, tmp_path / "last.db") == history.states[-1]


def test_litestream_restores_from_our_snapshot_and_levels(litestream, history, backup, tmp_path):
    """Snapshot at level 9, merged files at level 1; what they cover is taken away at level 0."""
    count = len(STATEMENTS)
    history.compact(1, 3, Encoding.BACKUP, 9)
    history.compact(4, 7, Encoding.BACKUP, 1)
    hidden = {path: path.read_bytes() for path in history.files[Encoding.BACKUP][:7]}
    for path in hidden:
        path.unlink()
    try:
        assert restore(litestream, backup, tmp_path / "a.db") == history.states[-1]
        assert restore(litestream, backup, tmp_path / "b.db", "-txid", format_txid(7)) == history.states[6]
        assert restore(litestream, backup, tmp_path / "c.db", "-txid", format_txid(count - 1)) == history.states[-2]
    finally:
        for path, data in hidden.items():
            path.write_bytes(data)
            moment = decode_ltx(data).header.timestamp_ms / 1000
            os.utime(path, (moment, moment))


def test_litestream_restores_to_a_time(litestream, history, backup, tmp_path):
    moment = datetime.fromtimestamp(TIME_MS / 1000 + 5.5, UTC).strftime("%Y-%m-%dT%H:%M:%S.500Z")
    assert restore(litestream, backup, tmp_path / "o.db", "-timestamp", moment) == history.states[4]


def test_litestream_refuses_stream_files(litestream, history, tmp_path):
    """Why there are two encodings."""
    folder = history.folder / Encoding.STREAM.value
    result = run(litestream, "restore", "-o", tmp_path / "o.db", f"file://{folder}", check=False)
    assert result.returncode != 0


def test_we_read_and_apply_what_litestream_replicates(litestream, tmp_path):
    database, replica = tmp_path / "a.db", tmp_path / "replica"
    connection = sqlite3.connect(database, isolation_level=None)
    connection.executescript("PRAGMA journal_mode=WAL; CREATE TABLE t(a, b);")
    process = subprocess.Popen(
        [litestream, "replicate", database, f"file://{replica}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    level_0 = replica / "ltx" / "0"

    def has_files(count):
        return len(list(level_0.glob("*.ltx"))) >= count

    try:
        wait_until(lambda: has_files(1))
        # Writes go on: Litestream 0.5.0 may not see one that comes just when it has begun, until there is another.
        wait_until(lambda: connection.execute("INSERT INTO t VALUES(1, hex(randomblob(500)))") and has_files(4))
    finally:
        process.terminate()
        process.wait(30)
    files = sorted(level_0.glob("*.ltx"))
    applied = apply_files(tmp_path / "ours.db", files)
    assert applied.files == len(files)
    restored = restore(litestream, replica, tmp_path / "theirs.db")
    assert hashlib.sha256((tmp_path / "ours.db").read_bytes()).digest() == hashlib.sha256(restored).digest()
    connection.close()


@pytest.mark.full
def test_litestream_restores_past_the_lock_page(litestream, tmp_path):
    """A database just over 1 GiB: page 16385 of 64 KiB holds the lock byte and is in no file."""
    page_size, lock = 65536, 16385
    commit = lock + 3
    pages = {
        1: b"one" + bytes(page_size - 3),
        lock - 1: b"before" * 10922 + bytes(4),
        lock + 1: b"after" * 13107 + b"!",
    }
    folder = tmp_path / "replica" / "ltx" / "0"
    folder.mkdir(parents=True)
    header = LtxHeader(page_size=page_size, commit=commit, min_txid=1, max_txid=1, timestamp_ms=TIME_MS)
    expected = hashlib.sha256()
    with (folder / f"{format_txid(1)}-{format_txid(1)}.ltx").open("wb") as file:
        encoder = LtxEncoder(file.write, header, Encoding.BACKUP)
        for pgno in range(1, commit + 1):
            page = pages.get(pgno, bytes(page_size))
            expected.update(page)
            if pgno != lock:
                encoder.write_page(pgno, page)
        encoder.close(0)
    target = tmp_path / "o.db"
    run(litestream, "restore", "-o", target, f"file://{tmp_path / 'replica'}")
    with target.open("rb") as file:
        assert hashlib.file_digest(file, "sha256").digest() == expected.digest()
    target.unlink()


def wait_until(condition, timeout_s=30):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
