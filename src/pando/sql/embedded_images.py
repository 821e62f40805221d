"""Whole files of databases at exact positions, for clients that begin a local copy.

They are the images that `/pull-updates` reads from (`pando.sql.pull_images`), and what the log makes of them: from an
image at one position to one at a later position, whose checksum is compared again. Blocking: call it in threads. Not
here: who gets them (`pando.api.embedded_v2`, `pando.api.embedded_v1`).
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pando.clock import random_bytes
from pando.errors import ChecksumMismatch, NotReady
from pando.sql.embedded_frames import PAGE_SIZE, libsql_frame, read_commit
from pando.sql.embedded_log import FrameLog
from pando.sql.pull_images import Image, ImageFile, find_images, image_checksum, image_name
from pando.sql.pull_reading import PullReading, Source
from pando.store.files import translate
from pando.types import TXID, Checksum

_READ_PAGES: Final = 64
_WAITS_PAGES: Final = 64


class ExportImages:
    """The images of a node, as one process makes and finds them."""

    def __init__(self, folder: Path, reading: PullReading, log: FrameLog) -> None:
        self._folder = folder
        self._reading = reading
        self._log = log
        self._lock = threading.Lock()

    def newest(self, source: Source, up_to: TXID) -> Image:
        """Give an image from which the log leads on; made if there is none. Raises PandoError."""
        return self._find(source, up_to) or self._make(source)

    def exact(self, database: str, txid: TXID, checksum: Checksum) -> Image | None:
        """Give the image at a position; made from an older one if the log leads there. Raises PandoError."""
        with self._lock:
            for image in reversed(find_images(self._folder, database)):
                place = image.position
                if (place.txid, place.checksum) == (txid, checksum):
                    return image
                if place.txid < txid and self._log.commits(database, place.txid, place.checksum, txid):
                    return self._advance(database, image, txid, checksum)
        return None

    def open(self, image: Image) -> ImageFile | None:
        """Open an image; None if it went meanwhile."""
        try:
            return ImageFile(image)
        except FileNotFoundError:
            return None

    def _find(self, source: Source, up_to: TXID) -> Image | None:
        for image in reversed(find_images(self._folder, source.database)):
            place = image.position
            if place.txid <= up_to and self._log.leads_on(source.database, place.txid, place.checksum):
                return image
        return None

    def _make(self, source: Source) -> Image:
        with self._lock:
            self._reading.make_image(source)
        images = find_images(self._folder, source.database)
        if not images:
            raise NotReady("the copy of the database that this needs is gone already; try again")
        return images[-1]

    def _advance(self, database: str, image: Image, txid: TXID, checksum: Checksum) -> Image | None:
        path = self._folder / f"pull-{random_bytes(8).hex()}.making"
        try:
            shutil.copyfile(image.path, path)
            if not self._apply(database, path, image, txid):
                return None
            position = self._log.position_at(database, txid)
            if position is None or position.checksum != checksum:
                return None
            with path.open("rb") as file:
                found = image_checksum(file)
            if found != checksum:
                raise ChecksumMismatch(f"a copy of {database!r} at {position} has checksum {found:016x}; try again")
            made = Image(self._folder / image_name(database, position), position)
            path.rename(made.path)
            return made
        except FileNotFoundError:
            return None  # the image was removed meanwhile
        except OSError as error:
            raise translate(error, "copy the database for a client that syncs", path) from error
        finally:
            path.unlink(missing_ok=True)

    def _apply(self, database: str, path: Path, image: Image, up_to: TXID) -> bool:
        """Write the pages of the commits after an image into a file; False if the log does not lead there."""
        after, checksum = image.position.txid, image.position.checksum
        with path.open("r+b", buffering=0) as file:
            while after < up_to:
                entries = self._log.commits(database, after, checksum, up_to)
                if not entries:
                    return False
                for entry in entries:
                    commit = read_commit(entry.payload)
                    for index, span in enumerate(commit.spans):
                        os.pwrite(file.fileno(), commit.page(index), (span.pgno - 1) * PAGE_SIZE)
                    file.truncate(commit.page_count * PAGE_SIZE)
                    after, checksum = entry.max_txid, entry.post_checksum
        return True


def bytes_of_image(file: ImageFile) -> Iterator[bytes]:
    """Give an image as the file that it is, in pieces; closes it."""
    try:
        for first in range(0, file.pages, _READ_PAGES):
            yield b"".join(file.read(number) for number in range(first, min(first + _READ_PAGES, file.pages)))
    finally:
        file.close()


def frames_of_image(file: ImageFile, number: int, skipped: int) -> Iterator[list[bytes]]:
    """Give an image as libSQL's frames of one commit, the last page first, in groups; closes it.

    All have the commit's number, which clients remember from the first; the last says how large the database is.
    `skipped` is the lock page, which SQLite never writes.
    """
    try:
        numbers = [page for page in range(file.pages, 0, -1) if page != skipped]
        for start in range(0, len(numbers), _WAITS_PAGES):
            group = numbers[start : start + _WAITS_PAGES]
            yield [libsql_frame(number, pgno, file.pages if pgno == 1 else 0, file.read(pgno - 1)) for pgno in group]
    finally:
        file.close()
