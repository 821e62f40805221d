"""The table of positions: what one process publishes another reads, whole and in an order that is safe."""

import contextlib
import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pando.errors import CorruptionError, InvariantError, NotReady, StorageError
from pando.store.positions import EPOCH_MAX, PositionTable, table_word
from pando.types import Position

MARK = 1 << 63


@pytest.fixture
def table(tmp_path: Path):
    table = PositionTable.create(tmp_path / "positions", 4)
    yield table
    table.close()


def test_slots_are_apart(table):
    for slot in range(4):
        table.claim(slot, slot + 10)
        table.publish_about(slot, slot + 2)
        table.publish_visible(slot, 1, slot + 1, MARK | slot)
        table.publish_head(slot, slot + 5, 1_700_000_000_000 + slot)
    table.release(2)
    for slot in (0, 1, 3):
        assert table.generation(slot) == slot + 10
        assert table.about(slot) == (1, slot + 1)
        assert table.visible(slot) == (1, slot + 1)
        assert table.checksum(slot) == MARK | slot
        assert table.position(slot) == Position(epoch=1, txid=slot + 1, checksum=MARK | slot)
        assert table.head(slot) == (slot + 5, 1_700_000_000_000 + slot)
    assert table.generation(2) == 0


def test_tables_tell_which_commit_changed_them_last(table):
    posts, users = {table_word("posts")}, {table_word("users")}
    table.claim(0, 1)
    assert table.newest(0, posts) > 1 << 62, "nothing is known yet"
    table.publish_tables(0, 5)
    assert [table.newest(0, words) for words in (posts, users, ())] == [5, 5, 5]
    table.publish_tables(0, 6, ["Posts"])
    assert [table.newest(0, words) for words in (posts, users, posts | users, ())] == [6, 5, 6, 5]
    table.publish_tables(0, 7)
    table.publish_tables(0, 8, ["users"])
    assert [table.newest(0, words) for words in (posts, users, ())] == [7, 8, 7]
    table.publish_tables(0, 9, ["posts", "*"])
    assert table.newest(0, users) == 9, "it may have changed any"
    table.claim(1, 2)
    table.publish_tables(1, 3)
    assert (table.newest(1, posts), table.newest(0, posts)) == (3, 9)
    table.claim(0, 3)
    assert table.newest(0, posts) > 1 << 62


def test_every_table_has_a_word_of_its_slot(table):
    names = [f"table{number}" for number in range(2000)]
    words = {table_word(name) for name in names}
    assert len(words) == 119 and min(words) == 8 and max(words) == 126
    assert table_word("_changes") == 127
    assert table_word("\udc80") in range(8, 128)


def test_about_runs_ahead_of_visible(table):
    table.claim(0, 1)
    table.publish_visible(0, 3, 7, MARK)
    table.publish_about(0, 8)
    assert (table.about(0), table.visible(0)) == ((3, 8), (3, 7))
    table.publish_visible(0, 3, 8, MARK | 1)
    assert (table.about(0), table.visible(0)) == ((3, 8), (3, 8))


def test_a_new_epoch_is_about_to_be_visible_before_it_is(table):
    table.claim(0, 1)
    table.publish_visible(0, 3, 100, MARK)
    table.publish_about(0, 91, epoch=4)
    assert (table.about(0), table.visible(0)) == ((4, 91), (3, 100))
    table.publish_visible(0, 4, 91, MARK | 1)
    assert (table.about(0), table.visible(0)) == ((4, 91), (4, 91))


def test_claiming_forgets_what_the_slot_said_and_renewing_does_not(table):
    table.claim(1, 5)
    table.publish_visible(1, 2, 9, MARK)
    table.renew(1, 6)
    assert (table.generation(1), table.visible(1)) == (6, (2, 9))
    table.claim(1, 7)
    assert (table.generation(1), table.visible(1), table.about(1)) == (7, (0, 0), (0, 0))
    assert table.position(1) is None


def test_largest_numbers(table):
    table.claim(3, 2**64 - 1)
    table.publish_visible(3, EPOCH_MAX, 2**64 - 1, 2**64 - 1)
    assert table.visible(3) == table.about(3) == (EPOCH_MAX, 2**64 - 1)
    with pytest.raises(InvariantError):
        table.publish_visible(3, EPOCH_MAX + 1, 1, MARK)
    for slot in (-1, 4):
        with pytest.raises(InvariantError):
            table.claim(slot, 1)


def test_making_it_anew_counts_starts_and_frees_all_slots(tmp_path, table):
    table.claim(0, 5)
    again = PositionTable.create(tmp_path / "positions", 4)
    assert (again.boot, again.slots) == (2, 4)
    assert table.generation(0) == 0, "who has it mapped sees the same memory"
    larger = PositionTable.create(tmp_path / "positions", 5)
    assert (larger.boot, larger.slots) == (1, 5)
    assert table.visible(3) == (0, 0), "the old mapping still stands"
    attached = PositionTable.attach(tmp_path / "positions")
    assert attached.slots == 5
    for one in (again, larger, attached):
        one.close()


def test_what_is_no_table_is_refused(tmp_path):
    with pytest.raises(StorageError):
        PositionTable.attach(tmp_path / "none")
    with pytest.raises(StorageError):
        PositionTable.create(tmp_path / "none" / "positions", 1)
    for content in (b"", b"short", bytes(128), bytes(64 * 5 + 1)):
        (tmp_path / "other").write_bytes(content)
        with pytest.raises(CorruptionError):
            PositionTable.attach(tmp_path / "other")


class _Watched:
    """The words of a table; looks at it through a reader after every single store."""

    def __init__(self, words: memoryview, look) -> None:
        self._words = words
        self._look = look

    def __getitem__(self, at: int) -> int:
        return self._words[at]

    def __setitem__(self, at: int, value: int) -> None:
        self._words[at] = value
        self._look()


def test_between_any_two_stores_of_a_change_of_history_nothing_wrong_is_read(tmp_path):
    """As if the writer were stopped there: TXIDs go back with the new epoch, the commonest way to pair them wrongly."""
    writer = PositionTable.create(tmp_path / "positions", 1)
    reader = PositionTable.attach(tmp_path / "positions")
    old, new = Position(epoch=1, txid=100, checksum=MARK | 1), Position(epoch=2, txid=90, checksum=MARK | 2)
    writer.claim(0, 1)
    writer.publish_visible(0, old.epoch, old.txid, old.checksum)
    words = writer._words
    for announced in (True, False):
        seen_visible, seen_about, seen_position = [], [], []

        def look(visible=seen_visible, about=seen_about, position=seen_position) -> None:
            visible.append(reader.visible(0))
            position.append(reader.position(0))
            try:
                about.append(reader.about(0))
            except NotReady:
                about.append(None)

        writer._words = _Watched(words, look)
        if announced:
            writer.publish_about(0, new.txid, epoch=new.epoch)
        writer.publish_visible(0, new.epoch, new.txid, new.checksum)
        writer._words = words
        assert [key for key, _ in itertools.groupby(seen_visible)] == [(1, 100), (0, 0), (2, 90)]
        assert [key for key, _ in itertools.groupby(seen_about)] == [None, (2, 90)]
        assert [key for key, _ in itertools.groupby(seen_position)] == [old, None, new]
        writer.publish_visible(0, old.epoch, old.txid, old.checksum)
    reader.close()
    writer.close()


_WRITER = """
import sys
from pathlib import Path
from pando.store.positions import PositionTable
table = PositionTable.attach(Path(sys.argv[1]))
txid, epoch = 1000, 1
for turn in range(60_000):
    if turn % 500 == 499:
        epoch, txid = epoch + 1, txid - 300
        table.publish_about(0, txid, epoch=epoch)
    else:
        txid += 1
        table.publish_about(0, txid)
    table.publish_visible(0, epoch, txid, 1 << 63 | epoch << 32 | txid)
table.release(0)
table.close()
"""


def test_another_process_sees_only_whole_positions(tmp_path):
    path = tmp_path / "positions"
    table = PositionTable.create(path, 2)
    table.claim(0, 77)
    table.publish_visible(0, 1, 1000, MARK | 1 << 32 | 1000)
    writer = subprocess.Popen([sys.executable, "-c", _WRITER, str(path)])
    last, seen = (1, 1000), set()
    for turn in itertools.count():
        if table.generation(0) != 77 or (turn % 1000 == 0 and writer.poll() is not None):
            break
        visible = table.visible(0)
        with contextlib.suppress(NotReady):  # the writer lost the processor in the middle of a change
            assert table.about(0) >= visible, "about is never behind what was visible before"
        position = table.position(0)
        if position is not None:
            assert position.checksum == MARK | position.epoch << 32 | position.txid
        if visible != (0, 0):
            assert visible >= last, "positions only go forward"
            last = visible
            seen.add(visible)
    assert writer.wait() == 0
    assert len(seen) > 3
    epochs = 1 + 60_000 // 500
    assert table.visible(0) == (epochs, 1000 + 60_000 - 120 * 301)
    table.close()


def test_a_forked_process_shares_the_table(tmp_path):
    table = PositionTable.create(tmp_path / "positions", 1)
    table.claim(0, 1)
    child = os.fork()
    if child == 0:
        table.publish_visible(0, 4, 44, MARK | 4)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert table.position(0) == Position(epoch=4, txid=44, checksum=MARK | 4)
    table.close()
