"""WAL files for tests: made by SQLite itself, or by hand."""

from collections.abc import Callable, Iterable
from pathlib import Path

import apsw

from pando.testing.wal_making import encode_frame, encode_header
from pando.wal.format import decode_header

Pread = Callable[[int, int], bytes]
Frame = tuple[int, int, bytes]


def preader(data: bytes) -> Pread:
    return lambda offset, size: data[offset : offset + size]


def file_preader(path: Path) -> Pread:
    def pread(offset: int, size: int) -> bytes:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(size)

    return pread


def open_database(path: Path, *, page_size: int = 4096, cache_pages: int | None = None) -> apsw.Connection:
    """A database in WAL mode that is never checkpointed by itself; the WAL stays while the connection is open."""
    connection = apsw.Connection(str(path))
    connection.execute(f"pragma page_size={page_size}")
    connection.execute("pragma journal_mode=wal")
    connection.execute("pragma wal_autocheckpoint=0")
    connection.execute("pragma synchronous=normal")
    if cache_pages is not None:
        connection.execute(f"pragma cache_size={cache_pages}")
    connection.execute("create table t(id integer primary key, v)")
    return connection


def random_rows(count: int, size: int) -> str:
    """SQL that inserts rows with random contents."""
    return (
        f"with recursive n(i) as (select 1 union all select i + 1 from n where i < {count}) "
        f"insert into t(v) select randomblob({size}) from n"
    )


def wal_path(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def build_wal(
    frames: Iterable[Frame], *, page_size: int = 512, big_endian: bool = False, salts: tuple[int, int] = (7, 9)
) -> bytes:
    """A WAL of the given frames (page, commit, content)."""
    data = encode_header(big_endian=big_endian, page_size=page_size, sequence=0, salts=salts)
    header = decode_header(data)
    assert header is not None
    checksum = header.checksum
    for pgno, commit, page in frames:
        frame, checksum = encode_frame(checksum, pgno, commit, page, salts=salts, big_endian=big_endian)
        data += frame
    return data
