"""Compaction against a model: a database as a dict of pages, and what a random history does to it."""

import io
import random
import tempfile
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pando.errors import LtxError
from pando.ltx import (
    Encoding,
    LtxDecoder,
    LtxEncoder,
    LtxHeader,
    compact_ltx,
    compacted_header,
    decode_ltx,
    encode_ltx,
    rolling_checksum,
)
from pando.types import EMPTY_CHECKSUM

FLAG = 1 << 63
SIZE = 512


def page(seed):
    return seed.to_bytes(4, "big") * (SIZE // 4)


@st.composite
def histories(draw, *, deletions=True):
    """Commits as (changed pages, size after); pages by which the database grows are among the changed ones."""
    commits, size, seed = [], 0, 0
    for _ in range(draw(st.integers(1, 7))):
        after = draw(st.integers(0 if deletions and size else 1, 9))
        changed = set(range(size + 1, after + 1))
        if after:
            changed |= draw(st.sets(st.integers(1, after), max_size=4))
        pages = {}
        for pgno in sorted(changed):
            seed += 1
            pages[pgno] = page(seed)
        commits.append((pages, after))
        size = after
    return commits


def encode_history(commits, encoding=Encoding.STREAM, first_txid=1):
    """Give the files, and the database after each commit."""
    files, states = [], []
    database, before = {}, EMPTY_CHECKSUM
    for txid, (pages, size) in enumerate(commits, first_txid):
        database = {pgno: data for pgno, data in (database | pages).items() if pgno <= size}
        after = rolling_checksum(database.items(), SIZE)
        header = LtxHeader(
            page_size=SIZE,
            commit=size,
            min_txid=txid,
            max_txid=txid,
            timestamp_ms=1000 * txid,
            pre_apply_checksum=0 if txid == 1 else before,
            wal_offset=32,
            wal_salt1=txid,
            node_id=7,
        )
        files.append(encode_ltx(header, sorted(pages.items()), after, encoding=encoding))
        states.append((dict(sorted(database.items())), after))
        before = after
    return files, states


def compact(files, **options):
    out = io.BytesIO()
    result = compact_ltx([LtxDecoder(io.BytesIO(file).read) for file in files], out.write, **options)
    return out.getvalue(), result


@given(histories())
@settings(deadline=None)
def test_snapshot_of_a_whole_history(commits):
    files, states = encode_history(commits)
    data, result = compact(files)
    file = decode_ltx(data)
    database, checksum = states[-1]
    assert dict(file.pages) == database
    assert file.trailer.post_apply_checksum == checksum
    assert (file.header.min_txid, file.header.max_txid) == (1, len(files))
    assert file.header.timestamp_ms == 1000 * len(files)
    assert (file.header.wal_offset, file.header.wal_salt1, file.header.node_id) == (0, 0, 0)
    assert (result.header, result.trailer, result.page_count) == (file.header, file.trailer, len(database))


@given(histories(), st.data())
@settings(deadline=None)
def test_any_run_of_files_does_what_they_do_one_by_one(commits, data):
    files, states = encode_history(commits)
    start = data.draw(st.integers(0, len(files) - 1))
    end = data.draw(st.integers(start + 1, len(files)))
    merged = decode_ltx(compact(files[start:end])[0])
    database = dict(states[start - 1][0]) if start else {}
    database.update(merged.pages)
    database = {pgno: content for pgno, content in database.items() if pgno <= merged.header.commit}
    assert dict(sorted(database.items())) == states[end - 1][0]
    assert merged.trailer.post_apply_checksum == states[end - 1][1]
    assert merged.header.pre_apply_checksum == (states[start - 1][1] if start else 0)


@given(histories(), st.integers(1, 6))
@settings(deadline=None)
def test_compacting_in_steps_gives_the_same(commits, step):
    files, _ = encode_history(commits)
    once = compact(files)[0]
    halves = [compact(files[start : start + step])[0] for start in range(0, len(files), step)]
    assert decode_ltx(compact(halves)[0]) == decode_ltx(once)


@given(histories(deletions=False))
@settings(deadline=None)
def test_encodings_can_be_changed_on_the_way(commits):
    files, states = encode_history(commits)
    as_backup = compact(files, encoding=Encoding.BACKUP)[0]
    assert decode_ltx(as_backup).trailer.post_apply_checksum == 0
    assert dict(decode_ltx(as_backup).pages) == states[-1][0]
    backups, _ = encode_history(commits, Encoding.BACKUP)
    assert compact(backups, encoding=Encoding.BACKUP)[0] == as_backup
    # A snapshot's checksum can be computed, so a stream file comes out of a backup.
    assert compact(backups)[0] == compact(files)[0] == compact([as_backup])[0]


COMMITS = [
    ({1: page(1), 2: page(2)}, 2),
    ({2: page(3), 3: page(4)}, 3),
    ({1: page(5)}, 2),
    ({3: page(6), 4: page(7)}, 4),
]


def test_pages_cut_off_and_written_again_are_the_new_ones():
    files, _ = encode_history(COMMITS)
    assert dict(decode_ltx(compact(files)[0]).pages) == {1: page(5), 2: page(3), 3: page(6), 4: page(7)}
    assert [number for number, _ in decode_ltx(compact(files[1:3])[0]).pages] == [1, 2]


def test_a_missing_growth_page_is_found_before_old_bytes_come_back():
    files, _ = encode_history(COMMITS, Encoding.BACKUP)
    header = decode_ltx(files[3]).header
    files[3] = encode_ltx(
        LtxHeader(
            page_size=SIZE, commit=4, min_txid=4, max_txid=4, pre_apply_checksum=FLAG, timestamp_ms=header.timestamp_ms
        ),
        [(4, page(7))],
        FLAG,
        encoding=Encoding.BACKUP,
    )
    for start in (0, 1, 2):
        with pytest.raises(LtxError, match="grew"):
            compact(files[start:], encoding=Encoding.BACKUP)


def test_files_without_checksums_make_no_stream_delta():
    files, _ = encode_history(COMMITS, Encoding.BACKUP)
    with pytest.raises(LtxError, match="flags"):
        compact(files[1:])


def test_a_gap_is_refused():
    files, _ = encode_history(COMMITS)
    with pytest.raises(LtxError, match="min_txid is 4"):
        compact([files[0], files[1], files[3]])


@pytest.mark.parametrize("order", [(1, 0), (0, 0), (0, 1, 1)])
def test_the_wrong_order_is_refused(order):
    files, _ = encode_history(COMMITS)
    with pytest.raises(LtxError, match="txid"):
        compact([files[number] for number in order])


def test_overlap_is_allowed_when_it_reaches_further():
    files, states = encode_history(COMMITS)
    wide, later = compact(files[:3])[0], compact(files[1:])[0]
    assert dict(decode_ltx(compact([wide, later])[0]).pages) == states[-1][0]
    with pytest.raises(LtxError, match="max_txid"):
        compact([wide, files[1]])


def test_another_page_size_is_refused():
    files, _ = encode_history(COMMITS)
    other = LtxHeader(page_size=1024, commit=1, min_txid=5, max_txid=5, pre_apply_checksum=FLAG)
    with pytest.raises(LtxError, match="page_size"):
        compact([*files, encode_ltx(other, [], FLAG)])


def test_files_of_two_histories_are_refused():
    files, _ = encode_history(COMMITS)
    others, _ = encode_history([({1: page(9), 2: page(8)}, 2), *COMMITS[1:]])
    with pytest.raises(LtxError, match="pre_apply_checksum"):
        compact([files[0], others[1]])


def test_a_snapshot_with_a_wrong_end_is_refused():
    """The last file claims a checksum that the merged pages do not have."""
    files, _ = encode_history(COMMITS[:2])
    header = decode_ltx(files[1]).header
    files[1] = encode_ltx(header, decode_ltx(files[1]).pages, FLAG | 5)
    with pytest.raises(LtxError, match="post_apply_checksum"):
        compact(files)


def test_a_broken_page_past_the_end_is_found_too():
    """What compaction drops is read and verified all the same."""
    files, _ = encode_history(COMMITS)
    damaged = files[1][:-1] + bytes((files[1][-1] ^ 1,))
    with pytest.raises(LtxError, match="file_checksum"):
        compact([files[0], damaged, files[2]])


def test_nothing_to_compact():
    with pytest.raises(LtxError):
        compacted_header([])


def test_memory_does_not_grow_with_the_files():
    count, page_size = 256, 65536
    contents = random.Random(3).randbytes(page_size)
    with tempfile.TemporaryFile(buffering=0) as first, tempfile.TemporaryFile(buffering=0) as out:
        header = LtxHeader(page_size=page_size, commit=count, min_txid=1, max_txid=1)
        encoder = LtxEncoder(first.write, header, Encoding.BACKUP)
        for number in range(1, count + 1):
            encoder.write_page(number, contents)
        encoder.close(0)
        first.seek(0)
        later = LtxHeader(page_size=page_size, commit=count, min_txid=2, max_txid=2, pre_apply_checksum=FLAG)
        second = encode_ltx(later, [(5, bytes(page_size))], FLAG, encoding=Encoding.BACKUP)
        tracemalloc.start()
        inputs = [LtxDecoder(first.read), LtxDecoder(io.BytesIO(second).read)]
        compact_ltx(inputs, out.write, encoding=Encoding.BACKUP)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert out.tell() > (count - 2) * page_size
    assert peak < 2 * 1024 * 1024
