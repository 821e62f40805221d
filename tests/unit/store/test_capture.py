"""Reading the WAL by its index: what is committed, and nothing else, whatever lies around it."""

from contextlib import contextmanager

import apsw
import pytest
from store_kit import Image, read_pages

from pando.errors import StorageError
from pando.store.capture import Capture, NewBase
from pando.store.checksums import PageChecksums
from pando.store.opening import Replay, scan_database
from pando.store.rawfile import RawFile
from pando.store.walscan import FramesLost, WalPages, WalTail, read_all_commits
from pando.types import TXID, Epoch, Pgno, Position
from pando.wal import ReadEnd


class Writer:
    """A connection with a capture beside it, without anything of a store."""

    def __init__(self, path, *, page_size=1024, auto_vacuum=0, checksums=None):
        self.path = path
        connection = apsw.Connection(str(path))
        for text in (f"PRAGMA page_size={page_size}", f"PRAGMA auto_vacuum={auto_vacuum}", "PRAGMA journal_mode=WAL"):
            connection.execute(text).fetchall()
        connection.close()
        self.raw = RawFile(str(path))
        scan = scan_database(self.raw)
        self.raw.page_count = scan.checksums.page_count
        self.capture = Capture(raw=self.raw, checksums=scan.checksums)
        self.capture.start(scan.wal.salts, scan.wal.frames)
        self.position = Position(epoch=Epoch(1), txid=TXID(1), checksum=scan.checksums.rolling)
        self.connection = apsw.Connection(str(path))
        self.sql("PRAGMA wal_autocheckpoint=0")
        self.sql("PRAGMA synchronous=OFF")
        assert not self.capture.is_behind()

    def sql(self, text, *args):
        return self.connection.execute(text, args).fetchall()

    def take(self):
        taken = self.capture.take(self.position, epoch=Epoch(1), timestamp_ms=1, tables=())
        if taken is not None:
            self.position = taken.position
        return taken

    def image(self, directory):
        target = directory / "copy.db"
        for suffix in ("", "-wal"):
            target.with_name(target.name + suffix).write_bytes(
                self.path.with_name(self.path.name + suffix).read_bytes()
            )
        target.with_name("copy.db-shm").unlink(missing_ok=True)
        return Image(*read_pages(target))

    def close(self):
        self.connection.close()
        self.raw.close()


@pytest.fixture
def writer(tmp_path):
    writer = Writer(tmp_path / "test.db")
    writer.sql("CREATE TABLE t (v)")
    writer.take()
    yield writer
    writer.close()


COUNT = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "


def spill(writer, count=200):
    """Write more than the page cache holds."""
    writer.sql("PRAGMA cache_size=4")
    writer.sql(COUNT + "INSERT INTO t SELECT randomblob(900) FROM n", count)


def test_nothing_committed_is_nothing(writer):
    assert writer.take() is None
    writer.sql("SELECT * FROM t")
    assert writer.take() is None
    assert writer.capture.backlog_bytes() == 0


def test_spilled_frames_of_an_open_transaction_are_not_looked_at(writer, tmp_path):
    image = writer.image(tmp_path)
    writer.sql("BEGIN")
    spill(writer)
    assert writer.raw.wal_size_bytes > 100_000
    assert not writer.capture.is_behind()
    assert writer.take() is None
    writer.sql("COMMIT")
    image.apply(writer.take())
    assert image.pages == writer.image(tmp_path).pages


@pytest.mark.parametrize("how", ["ROLLBACK", "savepoint"])
def test_frames_of_a_rolled_back_transaction_stay_behind_and_never_count(writer, tmp_path, how):
    image = writer.image(tmp_path)
    for number in range(4):
        writer.sql("BEGIN")
        writer.sql("SAVEPOINT a")
        spill(writer, 100 + number)
        if how == "ROLLBACK":
            writer.sql("ROLLBACK")
            assert writer.take() is None
            writer.sql("INSERT INTO t VALUES (?)", number)
        else:
            writer.sql("ROLLBACK TO a")
            writer.sql("INSERT INTO t VALUES (?)", number)
            writer.sql("COMMIT")
        assert writer.capture.wal_frames < 20
        image.apply(writer.take())
        assert image.pages == writer.image(tmp_path).pages


def test_a_commit_mark_that_sqlite_took_back_does_not_count(writer, tmp_path):
    """A COMMIT that fails when the WAL index cannot grow leaves whole frames with a commit mark behind."""
    image = writer.image(tmp_path)
    spill(writer, 30)
    image.apply(writer.take())
    wal = writer.path.with_name("test.db-wal")
    stride = 24 + 1024
    frames = writer.capture.wal_frames
    content = wal.read_bytes()
    stale = b"".join(content[32 + number * stride : 32 + (number + 1) * stride] for number in range(frames - 8, frames))
    with wal.open("r+b") as file:
        file.seek(32 + frames * stride)
        file.write(stale)  # salts and commit mark are right
    assert not writer.capture.is_behind()
    writer.sql("INSERT INTO t VALUES (1)")  # fewer frames: a commit mark stays behind them
    image.apply(writer.take())
    assert image.pages == writer.image(tmp_path).pages
    assert writer.capture.wal_frames < frames + 8


@pytest.mark.parametrize("auto_vacuum", [0, 1, 2])
def test_shrinking_and_growing(tmp_path, auto_vacuum):
    writer = Writer(tmp_path / "test.db", auto_vacuum=auto_vacuum)
    writer.sql("CREATE TABLE t (v)")
    writer.take()
    image = writer.image(tmp_path)
    for step in range(12):
        spill(writer, 40)
        image.apply(writer.take())
        writer.sql("DELETE FROM t WHERE rowid % 3 != ?", step % 3)
        if auto_vacuum == 2:
            writer.sql("PRAGMA incremental_vacuum(20)")
        if step % 3 == 2:
            writer.sql("VACUUM")
        if step % 4 == 1:
            writer.sql("PRAGMA wal_checkpoint(TRUNCATE)")
        taken = writer.take()
        if taken is not None:
            image.apply(taken)
        assert image.pages == writer.image(tmp_path).pages
    assert writer.raw.page_count == max(image.pages)
    writer.close()


def test_several_commits_become_one_entry(writer, tmp_path):
    image = writer.image(tmp_path)
    for number in range(5):
        writer.sql("INSERT INTO t VALUES (?)", number)
    entry = writer.take()
    assert writer.capture.commits == 5
    image.apply(entry)
    assert image.pages == writer.image(tmp_path).pages
    assert writer.take() is None


def test_a_wal_that_began_anew_is_followed(writer, tmp_path):
    image = writer.image(tmp_path)
    for number in range(6):
        spill(writer, 5)
        image.apply(writer.take())
        writer.sql(f"PRAGMA wal_checkpoint({'RESTART' if number % 2 else 'TRUNCATE'})")
        assert writer.take() is None
        writer.sql("INSERT INTO t VALUES (1)")
        assert writer.capture.backlog_bytes() < 10_000
        image.apply(writer.take())
        assert writer.capture.commits == 1
        assert image.pages == writer.image(tmp_path).pages


def test_frames_that_were_lost_in_a_restart_are_found_by_comparing_all_pages(writer, tmp_path):
    image = writer.image(tmp_path)
    spill(writer, 30)
    writer.sql("PRAGMA wal_checkpoint(RESTART)")
    writer.sql("UPDATE t SET v = 1 WHERE rowid = 3")
    entry = writer.take()
    assert writer.capture.commits == -1
    image.apply(entry)
    assert image.pages == writer.image(tmp_path).pages
    writer.sql("INSERT INTO t VALUES (2)")
    image.apply(writer.take())
    assert writer.capture.commits == 1


def test_a_comparison_that_others_disturb_is_made_again_without_them(writer, tmp_path):
    image = writer.image(tmp_path)
    spill(writer, 30)
    writer.sql("PRAGMA wal_checkpoint(RESTART)")
    writer.sql("UPDATE t SET v = 1 WHERE rowid = 3")
    others = []
    read_page = writer.raw.read_page

    @contextmanager
    def keep_others_out():
        others.append("out")
        yield

    def disturbed(pgno):
        if not others:
            writer.sql("INSERT INTO t VALUES (randomblob(10))")
        return read_page(pgno)

    writer.raw.read_page = disturbed
    writer.capture._keep_others_out = keep_others_out
    image.apply(writer.take())
    assert others == ["out"]
    assert image.pages == writer.image(tmp_path).pages


def test_commits_that_all_lie_behind_a_restart_need_no_comparison(writer, tmp_path):
    image = writer.image(tmp_path)
    writer.sql("PRAGMA wal_checkpoint(RESTART)")
    for number in range(3):
        writer.sql("INSERT INTO t VALUES (?)", number)
    image.apply(writer.take())
    assert writer.capture.commits == 3
    assert image.pages == writer.image(tmp_path).pages


def test_lost_frames_that_changed_too_much_make_a_new_base(writer, tmp_path):
    writer.capture._entry_bytes_max = 20_000
    spill(writer, 100)
    writer.sql("PRAGMA wal_checkpoint(RESTART)")
    writer.sql("INSERT INTO t VALUES (1)")
    taken = writer.take()
    assert isinstance(taken, NewBase)
    assert taken.position.checksum == writer.image(tmp_path).checksum


def test_a_large_commit_moves_the_checksums_on(writer, tmp_path):
    writer.capture._entry_bytes_max = 20_000
    spill(writer, 100)
    taken = writer.take()
    assert isinstance(taken, NewBase)
    assert taken.position.checksum == writer.image(tmp_path).checksum
    image = writer.image(tmp_path)
    writer.sql("DELETE FROM t WHERE rowid < 3")
    image.apply(writer.take())
    assert image.pages == writer.image(tmp_path).pages


def test_a_failing_read_changes_nothing(writer, tmp_path):
    image = writer.image(tmp_path)
    spill(writer, 30)
    pread = writer.raw.pread_wal
    for allowed in range(3):
        calls = []

        def failing(offset, size, calls=calls, allowed=allowed):
            calls.append(offset)
            if len(calls) > allowed:
                raise StorageError("the disk refuses")
            return pread(offset, min(size, 5000))

        writer.raw.pread_wal = failing
        with pytest.raises((StorageError, FramesLost)):
            list(writer.capture._tail.frames_to(writer.raw.read_state()))
        with pytest.raises(StorageError):
            writer.take()
    writer.raw.pread_wal = pread
    image.apply(writer.take())
    assert image.pages == writer.image(tmp_path).pages


def test_the_whole_wal_as_recovery_reads_it(writer, tmp_path):
    states = [writer.position.checksum]
    for number in range(6):
        spill(writer, 3 + number)
        writer.sql("DELETE FROM t WHERE rowid % 2")
        states.append(writer.take().post_checksum)
    writer.sql("BEGIN")
    spill(writer, 50)
    content = read_all_commits(writer.raw, writer.raw.read_state())
    assert content.frames == writer.capture.wal_frames
    content = read_all_commits(writer.raw, None)
    assert content.frames == writer.capture.wal_frames
    assert content.end is ReadEnd.TORN_TAIL
    scan = scan_database(writer.raw)
    assert [state for state in scan.states if state in states] == states
    writer.sql("ROLLBACK")


def test_growth_that_no_frame_holds_is_read_as_sqlite_reads_it(tmp_path):
    writer = Writer(tmp_path / "test.db")
    writer.sql("CREATE TABLE t (v)")
    spill(writer, 20)
    writer.take()
    state = writer.raw.read_state()
    visible = WalPages(writer.raw, state)
    image = writer.image(tmp_path)
    for number in range(1, state.page_count + 1):
        data = visible.read(Pgno(number))
        assert number == 1 or image.pages[number] == data
    pages = {Pgno(1): visible.read(Pgno(1))}
    writer.capture._checksums.resize(0)
    writer.capture._add_growth(pages, state)
    assert set(pages) == set(image.pages)
    replay = Replay(writer.raw, PageChecksums())
    for commit in read_all_commits(writer.raw, state).commits:
        last = replay.apply(commit)
    assert last == image.checksum
    writer.close()


def test_a_tail_that_has_seen_more_than_there_is_says_so(writer):
    tail = WalTail(writer.raw)
    state = writer.raw.read_state()
    tail.start(state.salts, state.frames + 5)
    with pytest.raises(FramesLost):
        list(tail.frames_to(state))
