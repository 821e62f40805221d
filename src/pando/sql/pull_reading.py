"""Answers `/pull-updates` from a database's log and from images of it: which pages a client must be sent.

A client that names what it has gets the newest version of each page that was changed since, from the log. One that has
nothing, or what the log does not know (any more, or it is of another history), gets every page: those of an image, and
what was changed between the image and the state asked for from the log. So the pages are those of exactly the state
that the answer names, or the request is refused. Everything here blocks and belongs into a thread. Not here: waiting
for commits, HTTP (`pando.api.pull_updates`).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from pando import limits
from pando.clock import Clock, sleep_blocking
from pando.errors import NotReady, RevisionGone
from pando.sql.pull_bitmaps import PageSet, decode_bitmap
from pando.sql.pull_images import Image, ImageFile, find_images, make_image, sweep_images
from pando.sql.pull_log import LOG_WAIT_S, POLL_S, TooMuch, in_log, newest_pages, overlay, pages_of_log, size_after
from pando.sql.pull_messages import (
    PAGE_SIZE,
    PullRequest,
    encode_header,
    encode_page,
)
from pando.sql.pull_pages import NewestPages
from pando.sql.pull_revisions import format_revision, parse_revision
from pando.store.files import FileMissing, RealFileSystem
from pando.store.logreader import LogReader
from pando.types import TXID, Position

CHANGES_BYTES_MAX: Final = 64 * limits.MIB
"""So much log, or as much as the database is large, is looked through for what changed; else all pages cost less."""
IMAGE_BEHIND_BYTES: Final = 16 * limits.MIB
"""An image with so much log behind it, or as much as half of it, is made anew."""
SEARCH_BYTES_MAX: Final = 256 * limits.MIB
"""So much log is looked through for pages of an old state."""
PART_BYTES: Final = 256 * limits.KIB
LOGS_OPEN_MAX: Final = 16
"""Logs that a process keeps open without using them, for the next request."""


class PositionsRead(Protocol):
    """What is read of the table of positions (`pando.store.positions`)."""

    def about(self, slot: int) -> tuple[int, int]:
        """Give (epoch, txid) of the newest commit that may be visible already."""
        ...

    def visible(self, slot: int) -> tuple[int, int]:
        """Give (epoch, txid) of the newest commit that surely is visible."""
        ...

    def position(self, slot: int) -> Position | None:
        """Give the visible position; None while it is not known."""
        ...


@dataclass(frozen=True, slots=True)
class Source:
    """Where one database of this node is: its file, the folder of its log, its slot in the table of positions."""

    database: str
    path: Path
    log: Path
    slot: int


class Pull:
    """One answer, in `parts`, which block. Close it when `parts` does not run."""

    def __init__(self, parts: Iterator[bytes], close: Callable[[], None]) -> None:
        self.parts = parts
        self.close = close


class ImageNeeded(Exception):
    """Nothing can be answered before an image was made (`make_image`), which takes a while."""


class PullReading:
    """The answers of one process."""

    def __init__(self, folder: Path, positions: PositionsRead, clock: Clock) -> None:
        self._clock = clock
        self._folder = folder
        self._positions = positions
        self._logs: list[tuple[Path, LogReader]] = []
        self._lock = threading.Lock()

    def answer(self, source: Source, request: PullRequest, *, takes_old_image: bool = False) -> Pull:
        """Find what a client must be sent. Raises ImageNeeded, RevisionGone, InvalidRequest, NotReady, StorageError.

        `takes_old_image`: take an image even if there is much log behind it.
        """
        selected = decode_bitmap(request.selector) if request.selector else None
        target = parse_revision(request.server_revision) if request.server_revision else None
        since = parse_revision(request.client_revision) if request.client_revision else None
        resources = contextlib.ExitStack()
        try:
            log = self._take_log(source)
            resources.callback(self._give_back_log, source, log)
            behind_max = SEARCH_BYTES_MAX if takes_old_image else IMAGE_BEHIND_BYTES
            return _Finding(self, source, log, resources, behind_max).find(since, target, selected)
        except BaseException:
            resources.close()
            raise

    def newest(self, source: Source, log: LogReader) -> Position:
        """Give the position that the node shows, which the log has."""
        deadline = self._clock.monotonic() + LOG_WAIT_S
        while True:
            position = self._positions.position(source.slot)
            found = None if position is None else in_log(log, position)
            if found is not None:
                return found
            if self._clock.monotonic() > deadline:
                raise NotReady(f"the log of {source.database} does not have the newest commit yet; try again")
            sleep_blocking(POLL_S)

    def sweep(self) -> int:
        """Remove images that nobody uses; gives how many stay."""
        return sweep_images(self._folder, self._clock.wall_ms() / 1000)

    def close(self) -> None:
        """Close what is kept open."""
        with self._lock:
            while self._logs:
                self._logs.pop()[1].close()

    # -- images --

    def images(self, source: Source, log: LogReader) -> list[Image]:
        """Give the images that belong to the database's history, the newest last."""
        return [image for image in find_images(self._folder, source.database) if log.holds(image.position)]

    def make_image(self, source: Source) -> None:
        """Make an image of a database as it is now."""
        log = self._take_log(source)
        try:
            self.newest(source, log)
            epoch = self._positions.visible(source.slot)[0]
            make_image(
                self._folder,
                source.database,
                source.path,
                visible=lambda: _in_epoch(self._positions.visible(source.slot), epoch),
                about=lambda: _in_epoch(self._positions.about(source.slot), epoch),
                complete=lambda low, high: overlay(log, low, high, self._clock),
            )
        finally:
            self._give_back_log(source, log)
        self.sweep()

    # -- logs: opening one costs a walk through its newest segment --

    def _take_log(self, source: Source) -> LogReader:
        with self._lock:
            for index, (folder, log) in enumerate(self._logs):
                if folder == source.log:
                    del self._logs[index]
                    return log
        try:
            return LogReader.open(source.log, RealFileSystem())
        except FileMissing as error:
            raise NotReady(f"the log of {source.database} is not there yet; try again") from error

    def _give_back_log(self, source: Source, log: LogReader) -> None:
        with self._lock:
            self._logs.append((source.log, log))
            dropped = self._logs.pop(0)[1] if len(self._logs) > LOGS_OPEN_MAX else None
        if dropped is not None:
            dropped.close()


def _in_epoch(place: tuple[int, int], epoch: int) -> int:
    if place[0] != epoch or not epoch:
        raise NotReady("the database is changing its history; try again")
    return place[1]


class _Finding:
    """One request."""

    def __init__(
        self,
        reading: PullReading,
        source: Source,
        log: LogReader,
        resources: contextlib.ExitStack,
        image_behind_max: int,
    ) -> None:
        self._reading = reading
        self._image_behind_max = image_behind_max
        self._source = source
        self._log = log
        self._resources = resources

    def find(self, since: Position | None, target: Position | None, selected: PageSet | None) -> Pull:
        if target is not None and not self._log.holds(target):
            raise _gone(target)
        if since is None:
            return self._all(target, selected)
        end = target or self._reading.newest(self._source, self._log)
        if not self._log.holds(since) or since.txid > end.txid:
            return self._all(None, None)
        changes_max = max(CHANGES_BYTES_MAX, _size_of(self._source.path))
        try:
            newest = newest_pages(self._log, since.txid, end.txid, changes_max)
        except TooMuch:
            return self._all(None, None)
        size = newest.size or 0  # which is not looked at when no page follows
        wanted = None if selected is None else {number + 1 for number in selected.below(size)}
        commits = {number: txid for number, txid in newest.commits.items() if wanted is None or number in wanted}
        header = encode_header(format_revision(end), size)
        return self._pull(header, pages_of_log(self._log, since.txid, end.txid, commits))

    def _all(self, target: Position | None, selected: PageSet | None) -> Pull:
        """Every page, or the selected ones, as of a state; the newest one if none is named."""
        if target is None:
            image, target, newest = self._newest_image()
            size = image.pages if newest.size is None else newest.size
            after = image.position.txid
            from_log = newest.commits
        else:
            image = self._image_near(target)
            size, after, from_log = self._of_old_state(image, target, selected)
        header = encode_header(format_revision(target), size)
        numbers = iter(range(size)) if selected is None else selected.below(size)
        if selected is not None:
            from_log = {at + 1: from_log[at + 1] for at in selected.below(size) if at + 1 in from_log}
        pages = _pages(image, numbers, from_log, self._log, after, target.txid)
        return self._pull(header, pages)

    def _newest_image(self) -> tuple[ImageFile, Position, NewestPages]:
        """Give an image with little log behind it, the newest position, and what the log changes in between."""
        images = self._reading.images(self._source, self._log)
        end = self._reading.newest(self._source, self._log)
        if not images or images[-1].position.txid > end.txid:
            raise ImageNeeded
        behind_max = max(self._image_behind_max, _size_of(images[-1].path) // 2)
        try:
            newest = newest_pages(self._log, images[-1].position.txid, end.txid, behind_max)
            return self._open(images[-1]), end, newest
        except (TooMuch, FileNotFoundError):
            raise ImageNeeded from None

    def _image_near(self, target: Position) -> ImageFile:
        """Give the last image before a state, or else the first one after it."""
        images = self._reading.images(self._source, self._log)
        before = [image for image in images if image.position.txid <= target.txid]
        for image in [*reversed(before), *images[len(before) :]]:
            with contextlib.suppress(FileNotFoundError):
                return self._open(image)
        raise ImageNeeded

    def _of_old_state(
        self, image: ImageFile, target: Position, selected: PageSet | None
    ) -> tuple[int, TXID, dict[int, TXID]]:
        """Give the size of the database at a state, and what must come from the log: after where, which pages."""
        at = image.position.txid
        try:
            if at <= target.txid:
                newest = newest_pages(self._log, at, target.txid, SEARCH_BYTES_MAX)
                return (image.pages if newest.size is None else newest.size), at, newest.commits
            size = self._size_at(target)
            since = newest_pages(self._log, target.txid, at, SEARCH_BYTES_MAX).commits
            wanted = range(size) if selected is None else selected.below(size)
            changed = frozenset(number + 1 for number in wanted if number + 1 in since or number >= image.pages)
            if not changed:
                return size, at, {}
            base = self._log.base.txid
            found = newest_pages(self._log, base, target.txid, SEARCH_BYTES_MAX, changed).commits
        except TooMuch:
            raise _gone(target) from None
        if len(found) < len(changed):
            raise _gone(target)
        return size, base, found

    def _size_at(self, position: Position) -> int:
        """Give the size of the database in pages at a position of the log."""
        entries = self._log.read(TXID(position.txid - 1), max_bytes=1, up_to=position.txid) if position.txid else []
        if entries and entries[0].max_txid == position.txid:
            return size_after(entries[0])
        with contextlib.suppress(FileNotFoundError):
            for image in self._reading.images(self._source, self._log):
                if image.position == position:
                    return _size_of(image.path) // PAGE_SIZE
        raise _gone(position)

    def _open(self, image: Image) -> ImageFile:
        file = ImageFile(image)
        self._resources.callback(file.close)
        return file

    def _pull(self, header: bytes, pages: Iterator[tuple[int, bytes]]) -> Pull:
        resources = self._resources.pop_all()
        return Pull(_parts(header, pages), resources.close)


def _gone(position: Position) -> RevisionGone:
    return RevisionGone(
        f"the pages as of {format_revision(position)} are not kept any more; pull again, or begin with a new file"
    )


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _pages(
    image: ImageFile,
    numbers: Iterable[int],
    from_log: dict[int, TXID],
    log: LogReader,
    after: TXID,
    end: TXID,
) -> Iterator[tuple[int, bytes]]:
    """Give pages of an image, and then those that are other ones in the log."""
    for number in numbers:
        if number + 1 not in from_log:
            yield number, image.read(number)
    yield from pages_of_log(log, after, end, from_log)


def _parts(header: bytes, pages: Iterator[tuple[int, bytes]]) -> Iterator[bytes]:
    """Give the messages in pieces of a good size."""
    parts, size = [header], len(header)
    for number, page in pages:
        parts.append(encode_page(number, page))
        size += PAGE_SIZE
        if size >= PART_BYTES:
            yield b"".join(parts)
            parts, size = [], 0
    if parts:
        yield b"".join(parts)
