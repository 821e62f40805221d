from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pando.errors import StorageError
from pando.sql import own_writes
from pando.sql.own_writes import BEHIND_S, OLD_MS, OwnWrites
from pando.sql.write_ring import ENTRIES, SIZE_BYTES, Entry, WriteRing


def test_owed_until_shown() -> None:
    writes = OwnWrites()
    assert not writes
    writes.remember(b"me", "data", (1, 5), 0.0)
    writes.remember(b"me", "data", (1, 4), 0.0)
    assert writes
    assert writes.owed(b"me", "data", (1, 4)) == (1, 5)
    assert writes.owed(b"you", "data", (1, 4)) is None
    assert writes.owed(b"me", "other", (1, 4)) is None
    assert writes.owed(b"me", "data", (1, 5)) is None
    assert not writes


def test_new_epoch_pays_everything_of_the_old() -> None:
    writes = OwnWrites()
    writes.remember(b"me", "data", (1, 50), 0.0)
    assert writes.owed(b"me", "data", (2, 40)) is None


def test_behind_for_a_while() -> None:
    writes = OwnWrites()
    writes.remember(b"me", "data", (1, 5), 10.0)
    assert writes.is_behind("data", 10.0 + BEHIND_S / 2)
    assert not writes.is_behind("other", 10.0)
    assert not writes.is_behind("data", 10.0 + BEHIND_S)


def test_bounded() -> None:
    writes = OwnWrites()
    for number in range(own_writes.REMEMBERED_MAX + 5):
        writes.remember(b"%d" % number, "data", (1, 5), 0.0)
    assert len(writes._owed) == own_writes.REMEMBERED_MAX
    assert writes.owed(b"4", "data", (1, 1)) is None
    assert writes.owed(b"%d" % own_writes.REMEMBERED_MAX, "data", (1, 1)) == (1, 5)


def test_what_is_shown_is_forgotten_whoever_asks() -> None:
    writes = OwnWrites()
    for number in range(20):
        writes.remember(b"%d" % number, "data", (1, number), 0.0)
        writes.remember(b"%d" % number, "other", (1, number), 0.0)
    for _ in range(200):
        writes.owed(b"somebody", "data", (1, 100))
    assert len(writes._owed) == 20
    assert writes.owed(b"19", "other", (1, 1)) == (1, 19)
    for _ in range(200):
        writes.owed(b"somebody", "other", (1, 100))
    assert not writes


# -- the processes of a node -------------------------------------------------------------------------------------------


def two(folder: Path, now: float = 0.0) -> tuple[OwnWrites, OwnWrites]:
    first, second = (OwnWrites(WriteRing.shared(folder / "ring"), now) for _ in range(2))
    return first, second


def test_each_process_knows_what_was_written_through_the_others(tmp_path: Path) -> None:
    first, second = two(tmp_path)
    assert not second
    first.remember(b"me", "data", (1, 5), 3.0)
    assert second
    assert second.owed(b"me", "data", (1, 4)) == (1, 5)
    assert second.owed(b"you", "data", (1, 4)) is None
    assert second.is_behind("data", 3.5) and not second.is_behind("data", 4.0)
    second.remember(b"me", "data", (1, 7), 4.0)
    assert first and first.owed(b"me", "data", (1, 5)) == (1, 7)
    assert second.owed(b"me", "data", (1, 7)) is None
    for writes in (first, second):
        writes.close()


def test_a_process_that_starts_later_takes_what_is_not_old(tmp_path: Path) -> None:
    now = OLD_MS / 1000 + 100.0
    (first, _) = two(tmp_path, now)
    first.remember(b"old", "data", (1, 5), 99.0)
    first.remember(b"new", "data", (1, 5), 101.0)
    first.remember(b"before the machine was started", "data", (1, 5), now + 1)
    later = OwnWrites(WriteRing.shared(tmp_path / "ring"), now)
    found = [later.owed(who, "data", (1, 4)) for who in (b"old", b"new", b"before the machine was started")]
    assert found == [None, (1, 5), None]


def test_a_process_that_falls_behind_misses_only_the_oldest(tmp_path: Path) -> None:
    first, second = two(tmp_path)
    for number in range(ENTRIES + 3):
        first.remember(b"%d" % number, "data", (1, 5), 0.0)
    assert second
    assert [second.owed(b"%d" % number, "data", (1, 4)) for number in (2, 3)] == [None, (1, 5)]
    assert second.owed(b"%d" % (ENTRIES + 2), "data", (1, 4)) == (1, 5)


def test_the_file_tells_no_token(tmp_path: Path) -> None:
    first, _ = two(tmp_path)
    first.remember(b"Bearer secret", "payroll", (1, 5), 0.0)
    content = (tmp_path / "ring").read_bytes()
    assert len(content) == SIZE_BYTES
    assert b"secret" not in content and b"payroll" not in content
    assert (tmp_path / "ring").stat().st_mode & 0o077 == 0
    assert WriteRing().who(b"a", "data") != WriteRing().who(b"a", "data")


def test_a_file_of_another_size_is_made_anew_and_one_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "ring").write_bytes(b"x" * 100)
    first, second = two(tmp_path)
    first.remember(b"me", "data", (1, 5), 0.0)
    assert second
    with pytest.raises(StorageError):
        WriteRing.shared(tmp_path / "not there" / "ring")


PLACES = st.tuples(st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 64) - 1))


@given(
    st.lists(
        st.builds(Entry, st.integers(0, (1 << 128) - 1), st.integers(0, (1 << 64) - 1), PLACES, st.integers(0, 1 << 60))
    )
)
def test_what_is_told_is_heard_in_order(entries: list[Entry]) -> None:
    ring = WriteRing()
    for entry in entries:
        ring.tell(entry)
    assert list(ring.after(0)) == entries
    assert list(ring.after(ring.newest)) == []


def tell_many(path: Path, number: int, count: int) -> None:
    ring = WriteRing.shared(path)
    for txid in range(count):
        ring.tell(Entry(number, number, (number, txid), number * txid))


@pytest.mark.slow
def test_entries_are_whole_while_several_processes_write(tmp_path: Path) -> None:
    ring = WriteRing.shared(tmp_path / "ring")
    start = multiprocessing.get_context("fork").Process
    writers = [start(target=tell_many, args=(tmp_path / "ring", number, 5000)) for number in (1, 2)]
    for writer in writers:
        writer.start()
    heard, seen = 0, {1: -1, 2: -1}
    while any(writer.is_alive() for writer in writers) or heard != ring.newest:
        newest = ring.newest
        for entry in ring.after(heard):
            epoch, txid = entry.place
            assert (entry.who, entry.database, entry.at_ms) == (epoch, epoch, epoch * txid)
            seen[epoch] = max(txid, seen[epoch])
        heard = newest
    for writer in writers:
        writer.join(20)
    assert seen == {1: 4999, 2: 4999}
