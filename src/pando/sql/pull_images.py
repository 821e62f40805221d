"""Images: copies of a database as of exactly one position, from which `/pull-updates` reads pages by their number.

An image is made in one read transaction while writes go on. What it shows lies between two commits that are known, so
the pages that the log has between them are put over it; then its checksum must be that of the position. Images lie in
the node's temporary folder under the name of their position, so that all its processes find them; they are few, go
after a while without use, and can always be made again. Not here: what is read from them (`pull_reading`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import apsw

from pando.clock import random_bytes
from pando.errors import ChecksumMismatch, NotReady, StorageError, StorageFull
from pando.ltx.checksum import combine_checksums, page_checksum
from pando.ltx.normalise import normalise_page_one
from pando.sql.pull_messages import PAGE_SIZE, check_page_size
from pando.store.files import translate
from pando.types import EMPTY_CHECKSUM, TXID, Checksum, Epoch, Pgno, Position, lock_pgno

IMAGES_MAX: Final = 8
"""Images of one node, of all databases together."""
IMAGES_OF_DATABASE_MAX: Final = 2
IDLE_S: Final = 600.0
"""An image that nobody read for this long goes."""
UNFINISHED_S: Final = 3600.0
"""What is still being made after this long was left by a process that died."""
BACKUP_PAGES: Final = 2048
_LOCK_PGNO: Final = lock_pgno(PAGE_SIZE)
_NAME = re.compile(r"pull-([A-Za-z0-9_-]{1,128})\.([0-9a-f]+)\.([0-9a-f]+)\.([0-9a-f]{16})\.image")
_MAKING: Final = re.compile(r"pull-[0-9a-f]{16}\.making(-journal)?")


@dataclass(frozen=True, slots=True)
class Image:
    """An image that is there."""

    path: Path
    position: Position


class ImageFile:
    """An open image; stays readable when its file is removed. Any thread, one at a time."""

    def __init__(self, image: Image) -> None:
        """Raises FileNotFoundError if it has gone meanwhile."""
        self.position = image.position
        self._file = image.path.open("rb", buffering=0)
        self.pages = os.fstat(self._file.fileno()).st_size // PAGE_SIZE
        os.utime(image.path)

    def read(self, number: int) -> bytes:
        """Give a page; `number` counts from 0. The lock page is empty. Raises StorageError."""
        if number + 1 == _LOCK_PGNO:
            return bytes(PAGE_SIZE)
        try:
            data = os.pread(self._file.fileno(), PAGE_SIZE, number * PAGE_SIZE)
        except OSError as error:
            raise StorageError(f"an image of the database cannot be read: {error.strerror}") from error
        if len(data) != PAGE_SIZE:
            raise StorageError(f"an image of the database ends before page {number}")
        return data

    def close(self) -> None:
        """Close it."""
        self._file.close()


def find_images(folder: Path, database: str) -> list[Image]:
    """Give the images of a database, the newest position last."""
    return sorted(
        (image for name, image, _ in _listed(folder) if name == database),
        key=lambda image: (image.position.epoch, image.position.txid),
    )


def sweep_images(folder: Path, now_s: float) -> int:
    """Remove what is idle or too much, and what was left unfinished; gives how many images stay."""
    by_age = sorted(_listed(folder), key=lambda listed: -listed[2])
    kept: dict[str, int] = {}
    stay = 0
    for name, image, used_s in by_age:
        kept[name] = kept.get(name, 0) + 1
        if kept[name] > IMAGES_OF_DATABASE_MAX or stay >= IMAGES_MAX or now_s - used_s > IDLE_S:
            image.path.unlink(missing_ok=True)
        else:
            stay += 1
    for path in folder.glob("pull-*.making*"):
        used = _used_s(path)
        if _MAKING.fullmatch(path.name) and used is not None and now_s - used > UNFINISHED_S:
            path.unlink(missing_ok=True)
    return stay


def _listed(folder: Path) -> list[tuple[str, Image, float]]:
    """Give database, image and last use of all images."""
    found = []
    for path in folder.glob("pull-*.image"):
        match, used = _NAME.fullmatch(path.name), _used_s(path)
        if match is None or used is None:
            continue
        epoch, txid, checksum = (int(part, 16) for part in match.groups()[1:])
        position = Position(epoch=Epoch(epoch), txid=TXID(txid), checksum=Checksum(checksum))
        found.append((match.group(1), Image(path, position), used))
    return found


def _used_s(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None


def image_name(database: str, position: Position) -> str:
    """Give the name by which every process finds an image."""
    return f"pull-{database}.{position.epoch:x}.{position.txid:x}.{position.checksum:016x}.image"


# -- making one --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Overlay:
    """What brings an image to exactly a position: pages (number from 1), and its size in pages if that may change."""

    position: Position
    pages: list[tuple[int, bytes]]
    size: int | None


Complete = Callable[[TXID, TXID], Overlay]
"""Gives what the log has after the first commit up to the second, which the log may have to reach first."""


def make_image(
    folder: Path, database: str, source: Path, visible: Callable[[], int], about: Callable[[], int], complete: Complete
) -> Image:
    """Make an image of a database as it is now. In a thread: takes as long as copying the file.

    `visible` gives the last commit that a snapshot taken afterwards shows for certain, `about` the last that one taken
    before can show. Raises PandoError; ChecksumMismatch when the history was changed meanwhile.
    """
    path = folder / f"pull-{random_bytes(8).hex()}.making"
    try:
        low, high, first = _copy(source, path, visible, about)
        overlay = complete(TXID(low), TXID(high))
        with path.open("r+b", buffering=0) as file:
            _finish(file, first, overlay)
        image = Image(folder / image_name(database, overlay.position), overlay.position)
        path.rename(image.path)
    except FileNotFoundError as error:
        raise NotReady("the copy went with the node's temporary files, which a start empties; try again") from error
    except OSError as error:
        raise translate(error, "copy the database for a client that syncs", path) from error
    finally:
        path.unlink(missing_ok=True)
    return image


@dataclass(frozen=True, slots=True)
class _FirstPage:
    """What SQLite's backup changes in page 1, as the source has it."""

    schema_cookie: int


def _copy(
    source: Path, target: Path, visible: Callable[[], int], about: Callable[[], int]
) -> tuple[int, int, _FirstPage]:
    """Copy one snapshot; gives the commits between which it lies."""
    try:
        with (
            closing(apsw.Connection(str(source), flags=apsw.SQLITE_OPEN_READONLY)) as reader,
            closing(apsw.Connection(str(target))) as copy,
        ):
            page_size = reader.execute("PRAGMA page_size").fetchall()[0][0]
            assert isinstance(page_size, int)
            check_page_size(page_size)
            copy.execute("PRAGMA journal_mode=OFF").fetchall()
            copy.execute("PRAGMA synchronous=OFF")
            low = visible()
            reader.execute("BEGIN")
            cookie = reader.execute("PRAGMA schema_version").fetchall()[0][0]
            assert isinstance(cookie, int)
            reader.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchall()
            high = about()
            with copy.backup("main", reader, "main") as backup:
                while not backup.done:
                    backup.step(BACKUP_PAGES)
    except apsw.FullError as error:
        raise StorageFull(f"no space for a copy of {source.name} in {target.parent}") from error
    except apsw.Error as error:
        raise StorageError(f"{source.name} cannot be copied: {error}") from error
    return low, high, _FirstPage(cookie)


def _finish(file: IO[bytes], first: _FirstPage, overlay: Overlay) -> None:
    """Undo what the copying changed, put the overlay on, and prove that the image is at its position."""
    page = bytearray(os.pread(file.fileno(), PAGE_SIZE, 0))
    if page:
        page[18:20] = b"\x02\x02"
        page[40:44] = first.schema_cookie.to_bytes(4, "big")
        os.pwrite(file.fileno(), normalise_page_one(bytes(page)), 0)
    for number, data in overlay.pages:
        os.pwrite(file.fileno(), data, (number - 1) * PAGE_SIZE)
    if overlay.size is not None:
        os.ftruncate(file.fileno(), overlay.size * PAGE_SIZE)
    found = image_checksum(file)
    if found != overlay.position.checksum:
        raise ChecksumMismatch(
            f"a copy of the database has the checksum {found:016x}, not that of {overlay.position}; try again"
        )


def image_checksum(file: IO[bytes]) -> Checksum:
    """Give the checksum of all pages of an open image."""
    rolling, number = EMPTY_CHECKSUM, 0
    while chunk := os.pread(file.fileno(), 64 * PAGE_SIZE, number * PAGE_SIZE):
        pages = (chunk[at : at + PAGE_SIZE] for at in range(0, len(chunk), PAGE_SIZE))
        numbered = ((Pgno(number + 1 + index), page) for index, page in enumerate(pages))
        rolling = combine_checksums(
            (page_checksum(pgno, page) for pgno, page in numbered if pgno != _LOCK_PGNO), rolling
        )
        number += len(chunk) // PAGE_SIZE
    return rolling
