"""The WAL reader on files that SQLite wrote, on files made by hand, and on damage of every kind."""

import random
import shutil
from pathlib import Path

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wal_files import build_wal, file_preader, open_database, preader, random_rows, wal_path

from pando.wal import ReadEnd, WalCommit, WalReader
from pando.wal import reader as reader_module
from pando.wal.format import FRAME_HEADER_SIZE, HEADER_SIZE

STRIDE = FRAME_HEADER_SIZE + 512


def _page(seed: int, size: int = 512) -> bytes:
    return random.Random(seed).randbytes(size)


def _state(file: bytes, commits: list[WalCommit], page_size: int) -> bytes:
    """The database file after a checkpoint of these commits."""
    image = bytearray(file)
    for commit in commits:
        assert commit.data is not None
        assert commit.data.keys() == commit.pages.keys()
        for pgno, data in commit.data.items():
            end = pgno * page_size
            image.extend(bytes(max(0, end - len(image))))
            image[end - page_size : end] = data
        del image[commit.page_count * page_size :]
    return bytes(image)


def _sqlite_state(file: bytes, wal: bytes, directory: Path) -> bytes:
    """What SQLite makes of a file and a WAL: recover, checkpoint, and look."""
    path = directory / "other.db"
    path.write_bytes(file)
    wal_path(path).write_bytes(wal)
    path.with_name("other.db-shm").unlink(missing_ok=True)
    connection = apsw.Connection(str(path))
    connection.execute("select count(*) from sqlite_schema")
    connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    connection.close()
    return path.read_bytes()


# -- what SQLite writes ----------


@pytest.mark.parametrize("page_size", [512, 1024, 2048, 4096, 8192, 16384, 32768, 65536])
@pytest.mark.parametrize("trusted", [False, True])
def test_commits_as_they_are_made(tmp_path, page_size, trusted):
    path = tmp_path / "a.db"
    connection = open_database(path, page_size=page_size)
    reader = WalReader(file_preader(wal_path(path)), page_size=page_size, trusted=trusted)
    file, commits = path.read_bytes(), []
    for step in range(6):
        if step:
            connection.execute("insert into t(v) values(zeroblob(?))", (step * page_size,))
        read = reader.read_commits()
        assert (len(read.commits), read.end) == (1, ReadEnd.CLEAN_END)
        commits += read.commits
        assert reader.read_commits().commits == []
    assert reader.frames * (page_size + 24) + 32 == wal_path(path).stat().st_size
    assert _state(file, commits, page_size) == _sqlite_state(file, wal_path(path).read_bytes(), tmp_path)
    connection.close()


@pytest.mark.parametrize("trusted", [False, True])
def test_a_commit_larger_than_the_cache(tmp_path, trusted):
    path = tmp_path / "a.db"
    connection = open_database(path, cache_pages=5)
    reader = WalReader(file_preader(wal_path(path)), trusted=trusted)
    reader.read_commits()
    with connection:
        for _ in range(3):  # the cache spills before the commit
            connection.execute(random_rows(50, 3000))
            connection.execute("update t set v = randomblob(3000)")
            read = reader.read_commits()
            assert (read.commits, read.end) == ([], ReadEnd.TORN_TAIL)
    (commit,) = reader.read_commits().commits
    data = wal_path(path).read_bytes()
    assert len(commit.pages) > 100
    assert commit.data == {pgno: data[offset : offset + 4096] for pgno, offset in commit.pages.items()}
    connection.close()


@pytest.mark.parametrize("limited", [False, True])
@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize("how", ["savepoint", "transaction"])
def test_what_a_rollback_left_is_not_read(tmp_path, trusted, how, limited):
    """A rolled-back spill leaves frames with valid salts, after a plain rollback even with valid checksums."""
    path = tmp_path / "a.db"
    connection = open_database(path, cache_pages=5)
    reader = WalReader(file_preader(wal_path(path)), page_size=4096, trusted=trusted)
    committed = [0]
    connection.set_wal_hook(lambda _connection, _name, frames: committed.append(frames) or apsw.SQLITE_OK)

    def read() -> tuple[list[WalCommit], ReadEnd]:
        found = reader.read_commits(frames=committed[-1] if limited and committed[-1] else None)
        return found.commits, found.end

    file, commits = path.read_bytes(), read()[0]
    big = random_rows(200, 3000)
    for turn in range(4):
        connection.execute("begin")
        if how == "savepoint":
            connection.execute("savepoint s")
        connection.execute(big)
        assert wal_path(path).stat().st_size > 100 * 4120, "it spilled"
        found, end = read()
        assert (found, end) == ([], ReadEnd.CLEAN_END if limited and committed[-1] else ReadEnd.TORN_TAIL)
        connection.execute("rollback to s" if how == "savepoint" else "rollback")
        if how == "savepoint":
            connection.execute("insert into t(v) values(?)", (turn,))
            connection.execute("commit")
        else:
            assert read()[0] == []
            connection.execute("insert into t(v) values(?)", (turn,))
        found, end = read()
        assert len(found) == 1
        assert found[0].frames - (commits[-1].frames if commits else 0) < 10
        assert end is (ReadEnd.CLEAN_END if limited else ReadEnd.TORN_TAIL)
        commits += found
    assert _state(file, commits, 4096) == _sqlite_state(file, wal_path(path).read_bytes(), tmp_path)
    connection.close()


@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize("mode", [apsw.SQLITE_CHECKPOINT_RESTART, apsw.SQLITE_CHECKPOINT_TRUNCATE])
def test_a_restart_is_told_and_reading_goes_on(tmp_path, trusted, mode):
    path = tmp_path / "a.db"
    connection = open_database(path)
    reader = WalReader(file_preader(wal_path(path)), trusted=trusted)
    for _ in range(20):
        connection.execute("insert into t(v) values(randomblob(5000))")
    assert len(reader.read_commits().commits) == 21
    for turn in range(3):
        salts = reader.salts
        connection.wal_checkpoint(mode=mode)
        if mode == apsw.SQLITE_CHECKPOINT_RESTART:
            assert reader.read_commits().end is ReadEnd.CLEAN_END, "nothing new is written yet"
        connection.execute("insert into t(v) values(?)", (turn,))
        restarted = reader.read_commits()
        assert (restarted.end, restarted.commits) == (ReadEnd.RESTARTED, [])
        read = reader.read_commits()
        assert (len(read.commits), read.end) == (1, ReadEnd.CLEAN_END), "what the old generation left is no tear"
        assert reader.salts != salts
        assert reader.frames < 10
    connection.close()


def test_an_emptied_wal(tmp_path):
    path = tmp_path / "a.db"
    connection = open_database(path)
    reader = WalReader(file_preader(wal_path(path)))
    reader.read_commits()
    connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    assert wal_path(path).stat().st_size == 0
    assert reader.read_commits().end is ReadEnd.RESTARTED
    for _ in range(2):
        assert reader.read_commits().end is ReadEnd.CLEAN_END
    assert (reader.frames, reader.page_size, reader.salts) == (0, 0, (0, 0))
    connection.close()


def test_a_shrinking_database(tmp_path):
    path = tmp_path / "a.db"
    connection = open_database(path, page_size=1024)
    file = path.read_bytes()
    connection.execute(random_rows(100, 900))
    connection.execute("delete from t where id > 3")
    connection.execute("vacuum")
    commits = WalReader(file_preader(wal_path(path))).read_commits().commits
    assert commits[-1].page_count < commits[-2].page_count
    assert _state(file, commits, 1024) == _sqlite_state(file, wal_path(path).read_bytes(), tmp_path)
    connection.close()


# -- by hand ----------


@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize("big_endian", [False, True])
def test_both_byte_orders_of_checksums(big_endian, trusted):
    frames = [(1, 0, _page(1)), (2, 2, _page(2)), (2, 2, _page(3))]
    reader = WalReader(preader(build_wal(frames, big_endian=big_endian)), trusted=trusted)
    read = reader.read_commits()
    assert [commit.data for commit in read.commits] == [{1: _page(1), 2: _page(2)}, {2: _page(3)}]
    assert [commit.frames for commit in read.commits] == [2, 3]
    assert [commit.page_count for commit in read.commits] == [2, 2]
    assert read.end is ReadEnd.CLEAN_END


def test_the_last_version_of_a_page_counts():
    wal = build_wal([(1, 0, _page(1)), (2, 0, _page(2)), (1, 0, _page(3)), (1, 2, _page(4))])
    (commit,) = WalReader(preader(wal)).read_commits().commits
    assert commit.data == {1: _page(4), 2: _page(2)}
    assert {pgno: wal[offset : offset + 512] for pgno, offset in commit.pages.items()} == commit.data


@given(st.lists(st.integers(1, 4), min_size=1, max_size=8), st.booleans(), st.data())
def test_reading_in_steps_gives_the_same_as_reading_at_once(sizes, trusted, data):
    frames, seed = [], 0
    for size in sizes:
        for left in range(size, 0, -1):
            seed += 1
            frames.append((seed % 5 + 1, 0 if left > 1 else 5, _page(seed)))
    whole = build_wal(frames)
    at_once = WalReader(preader(whole)).read_commits().commits
    assert len(at_once) == len(sizes)
    length = 0
    reader = WalReader(lambda offset, size: whole[:length][offset : offset + size], trusted=trusted)
    in_steps = []
    for step in sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6))):
        length = step
        in_steps += reader.read_commits().commits
    length = len(whole)
    in_steps += reader.read_commits().commits
    assert in_steps == at_once


def test_a_commit_that_is_too_large_comes_without_contents(monkeypatch):
    monkeypatch.setattr(reader_module, "KEEP_BYTES_MAX", 5000)
    frames = [(number, 20 if number in {3, 20} else 0, _page(number)) for number in range(1, 21)] + [(1, 20, _page(99))]
    wal = build_wal(frames)
    reader = WalReader(preader(wal))
    first = reader.read_commits()
    assert first.end is ReadEnd.MORE
    small, large = first.commits
    assert small.data is not None
    assert large.data is None
    assert [wal[offset : offset + 512] for offset in large.pages.values()] == [_page(pgno) for pgno in large.pages]
    rest = reader.read_commits()
    assert (rest.end, rest.commits[0].data) == (ReadEnd.CLEAN_END, {1: _page(99)})
    without = WalReader(preader(wal), keep_data=False).read_commits()
    assert [commit.data for commit in without.commits] == [None] * 3


def test_one_call_goes_through_a_bounded_number_of_frames(monkeypatch):
    monkeypatch.setattr(reader_module, "COMMIT_BYTES_MAX", 10 * STRIDE)
    reader = WalReader(preader(build_wal([(1, 1, _page(seed)) for seed in range(25)])))
    assert [(len(read.commits), read.end) for read in (reader.read_commits() for _ in range(4))] == [
        (10, ReadEnd.MORE),
        (10, ReadEnd.MORE),
        (5, ReadEnd.CLEAN_END),
        (0, ReadEnd.CLEAN_END),
    ]


@pytest.mark.parametrize("trusted", [False, True])
def test_no_further_than_sqlite_says(trusted):
    wal = build_wal([(1, 1, _page(1)), (1, 1, _page(2)), (1, 1, _page(3))])
    reader = WalReader(preader(wal), trusted=trusted)
    for frames in (1, 1, 3):
        read = reader.read_commits(frames=frames)
        assert (reader.frames, read.end) == (frames, ReadEnd.CLEAN_END)
    assert reader.read_commits(frames=4).end is ReadEnd.CORRUPT


def test_a_page_size_other_than_the_database_has_is_corrupt():
    read = WalReader(preader(build_wal([(1, 1, _page(1))])), page_size=4096).read_commits()
    assert (read.end, read.commits) == (ReadEnd.CORRUPT, [])


def test_an_older_generation_behind_the_last_commit_is_a_clean_end():
    old = build_wal([(number, 9, _page(number)) for number in range(1, 10)], salts=(6, 1234))
    new = build_wal([(1, 9, _page(50)), (2, 9, _page(51))], salts=(7, 5678))
    for trusted in (False, True):
        read = WalReader(preader(new + old[len(new) :]), trusted=trusted).read_commits()
        assert (len(read.commits), read.end) == (2, ReadEnd.CLEAN_END)


# -- damage ----------

_SMALL = [(1, 0, _page(1)), (2, 2, _page(2)), (3, 3, _page(3)), (1, 0, _page(4)), (4, 4, _page(5))]
_COMMIT_ENDS = [2, 3, 5]


@pytest.mark.parametrize("big_endian", [False, True])
def test_truncation_at_every_byte(big_endian):
    wal = build_wal(_SMALL, big_endian=big_endian)
    ends = {HEADER_SIZE + frames * STRIDE for frames in _COMMIT_ENDS} | {0, HEADER_SIZE}
    for size in range(len(wal) + 1):
        read = WalReader(preader(wal[:size]), page_size=512).read_commits()
        whole = max(0, size - HEADER_SIZE) // STRIDE
        assert len(read.commits) == sum(end <= whole for end in _COMMIT_ENDS)
        assert read.end is (ReadEnd.CLEAN_END if size in ends else ReadEnd.TORN_TAIL), size
        trusted = WalReader(preader(wal[:size]), page_size=512, trusted=True).read_commits()
        assert (trusted.commits, trusted.end) == (read.commits, read.end)


@pytest.mark.parametrize(("big_endian", "flip"), [(False, 0x01), (False, 0xFF), (True, 0x80)])
def test_a_flip_of_every_byte(big_endian, flip):
    wal = build_wal(_SMALL, big_endian=big_endian)
    whole = WalReader(preader(wal)).read_commits().commits
    for at in range(len(wal)):
        read = WalReader(preader(wal[:at] + bytes([wal[at] ^ flip]) + wal[at + 1 :])).read_commits()
        frame = (at - HEADER_SIZE) // STRIDE if at >= HEADER_SIZE else -1
        before = [commit for commit in whole if commit.frames <= frame]
        assert read.commits == before, at
        assert read.end is (ReadEnd.TORN_TAIL if frame == 4 else ReadEnd.CORRUPT), (at, read)


@pytest.mark.parametrize("page_size", [None, 512])
def test_a_flip_of_every_byte_of_the_header_before_a_single_frame(page_size):
    wal = build_wal([(1, 1, _page(1))])
    for at in range(HEADER_SIZE):
        for flip in (0x01, 0x10, 0xFF):
            bad = wal[:at] + bytes([wal[at] ^ flip]) + wal[at + 1 :]
            assert WalReader(preader(bad), page_size=page_size).read_commits().end is ReadEnd.CORRUPT
            alone = WalReader(preader(bad[:HEADER_SIZE]), page_size=page_size).read_commits()
            assert (alone.end, alone.commits) == (ReadEnd.TORN_TAIL, [])


@given(st.binary(max_size=3000), st.booleans())
def test_noise_gives_no_commit_and_no_exception(noise, trusted):
    assert WalReader(preader(noise), trusted=trusted).read_commits().commits == []
    wal = build_wal(_SMALL)
    behind = WalReader(preader(wal + noise), trusted=trusted).read_commits()
    assert len(behind.commits) == 3
    over = WalReader(preader(noise + wal[len(noise) :]), trusted=False).read_commits()
    assert len(over.commits) <= 3


def test_zeros_behind_the_last_commit_are_a_torn_tail():
    wal = build_wal(_SMALL)
    assert WalReader(preader(wal + bytes(STRIDE * 3))).read_commits().end is ReadEnd.TORN_TAIL
    hole = wal[: HEADER_SIZE + 2 * STRIDE] + bytes(STRIDE) + wal[HEADER_SIZE + 3 * STRIDE :]
    assert WalReader(preader(hole)).read_commits().end is ReadEnd.CORRUPT


def test_a_page_number_of_zero_is_never_handed_out():
    wal = build_wal([(1, 1, _page(1)), (0, 1, _page(2)), (2, 2, _page(3))])
    for trusted in (False, True):
        read = WalReader(preader(wal), trusted=trusted).read_commits()
        assert (len(read.commits), read.end) == (1, ReadEnd.CORRUPT)


@pytest.mark.slow
def test_sqlite_recovers_what_we_read_after_any_damage(tmp_path):
    """SQLite's own recovery and ours take the same commits, wherever the file is cut or damaged."""
    path = tmp_path / "a.db"
    connection = open_database(path, page_size=512, cache_pages=2)
    file = path.read_bytes()
    for step in range(5):
        connection.execute("insert into t(v) values(?)", (str(step) * 200 * step,))
    connection.execute("begin")
    connection.execute(random_rows(30, 400))
    wal = wal_path(path).read_bytes()
    connection.execute("rollback")
    connection.close()
    rng = random.Random(1)
    seen = set()
    for _ in range(400):
        at = rng.randrange(len(wal))
        bad = wal[:at] if rng.random() < 0.5 else wal[:at] + bytes([wal[at] ^ 1 << rng.randrange(8)]) + wal[at + 1 :]
        read = WalReader(preader(bad), page_size=512).read_commits()
        seen.add((read.end, len(read.commits)))
        shutil.rmtree(tmp_path / "x", ignore_errors=True)
        (tmp_path / "x").mkdir()
        assert _state(file, read.commits, 512) == _sqlite_state(file, bad, tmp_path / "x"), (at, read.end)
    assert len(seen) > 6
