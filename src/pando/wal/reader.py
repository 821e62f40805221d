"""Reads commits from a write-ahead log, again and again, each time from where it stopped. Pure: pread is a parameter.

A frame is taken if it has the salts of the file header and its checksum continues the chain; a commit is complete with
the frame that carries a database size. What lies behind the last such frame was never committed, or was rolled back and
will be written over, however valid it looks.

Two modes. The verifying one (default) trusts nothing and judges what lies behind the last commit. The trusting one
checks salts, page numbers and commit marks and skips the sums. It is sound for the process that has just written the
frames itself, as the only writer, and reads after its COMMIT: frames with the current salts behind the last commit can
only come from transactions that were rolled back, which write no commit mark, and all frames before it are the writer's
own. It is not sound after a crash. The chain is carried on from what the last frame says, so both modes read on alike.

Who knows from SQLite how many frames are committed should say so: otherwise what a large rolled-back transaction left
behind the last commit is gone through on each call, until it has been written over.

Not here: which pages matter, page contents, and the `-shm` file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from pando.types import Pgno
from pando.wal.evidence import has_commit_behind, has_commit_behind_header
from pando.wal.format import FRAME, FRAME_HEADER_SIZE, HEADER_SIZE, WalHeader, decode_header, frame_checksum

Pread = Callable[[int, int], bytes]
"""Reads (offset, size); fewer bytes only at the end of the file."""

FIRST_READ_FRAMES = 6
"""Most commits are smaller than this; later reads grow."""
READ_SIZE_MAX = 4 * 1024 * 1024
"""Bytes in one read."""
KEEP_BYTES_MAX = 16 * 1024 * 1024
"""Page contents that one call hands out; a commit past it comes with offsets only."""
COMMIT_BYTES_MAX = 64 * 1024 * 1024
"""Frames that one call goes through before it stops behind a commit and says MORE."""


class ReadEnd(StrEnum):
    """Why reading stopped."""

    CLEAN_END = "clean-end"
    """Nothing of this generation lies behind the last commit."""
    MORE = "more"
    """There are more commits: call again."""
    TORN_TAIL = "torn-tail"
    """Frames that are incomplete, damaged, rolled back or not committed yet, and no commit behind them."""
    RESTARTED = "restarted"
    """The WAL begins anew since the last call; nothing was read, the next call reads its first frame."""
    CORRUPT = "corrupt"
    """A damaged frame, or file header, has commits of its generation behind it. They are not handed out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WalCommit:
    """One commit: the database size after it in pages, and for each page where its last version lies in the file.

    `data` holds the contents, or None when the commit is too large: read `page_size` bytes at the offsets. Pages past
    the end of a database that shrank are included. `frames`: number of frames in the file up to and with this commit.
    """

    page_count: int
    frames: int
    pages: dict[Pgno, int]
    data: dict[Pgno, bytes] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WalRead:
    """What one call found: commits, why it stopped, and for people in which way."""

    commits: list[WalCommit] = field(default_factory=list)
    end: ReadEnd
    reason: str = ""


@dataclass(slots=True)
class _Pending:
    """Frames since the last commit."""

    pages: dict[Pgno, int] = field(default_factory=dict)
    data: dict[Pgno, bytes] | None = field(default_factory=dict)


class WalReader:
    """Reads one WAL file, commit by commit, through restarts.

    pread: reads the file; what it raises is passed on. page_size: what the database has, None when not known.
    trusted: see the module. keep_data: whether contents of pages are handed out.
    """

    def __init__(
        self, pread: Pread, *, page_size: int | None = None, trusted: bool = False, keep_data: bool = True
    ) -> None:
        self._pread = pread
        self._expected_page_size = page_size
        self._trusted = trusted
        self._keep_data = keep_data
        self._raw_header: bytes | None = None
        self._header: WalHeader | None = None
        self._frames = 0
        self._checksum = (0, 0)
        self._stopped: tuple[ReadEnd, str] = (ReadEnd.CLEAN_END, "")

    @property
    def frames(self) -> int:
        """Frames up to the last commit that was read, in this generation of the file."""
        return self._frames

    @property
    def page_size(self) -> int:
        """Page size that the file header says; 0 before one was read."""
        return self._header.page_size if self._header is not None else 0

    @property
    def salts(self) -> tuple[int, int]:
        """The salts of this generation; (0, 0) before a header was read."""
        return self._header.salts if self._header is not None else (0, 0)

    def read_commits(self, *, frames: int | None = None) -> WalRead:
        """Give the commits since the last call, and why there are no more.

        frames: how many frames SQLite itself says are committed (its WAL hook does); no further is read, and fewer is
        CORRUPT.
        """
        raw = self._pread(0, HEADER_SIZE)
        if raw != self._raw_header:
            stopped = self._take_header(raw)
            if stopped is not None:
                return stopped
        assert self._header is not None
        return self._read(self._header, frames)

    # -- inside ----------

    def _take_header(self, raw: bytes) -> WalRead | None:
        """Begin a generation; None when its frames can be read at once."""
        had_one = self._header is not None
        header = decode_header(raw)
        if header is not None and self._expected_page_size not in {None, header.page_size}:
            reason = f"pages of {header.page_size} bytes in the WAL, of {self._expected_page_size} in the database"
            return WalRead(end=ReadEnd.CORRUPT, reason=reason)
        self._header, self._frames = header, 0
        self._raw_header = raw if header is not None else None
        if header is not None:
            self._checksum = header.checksum
        if had_one:
            return WalRead(end=ReadEnd.RESTARTED, reason="the file header has changed")
        if header is not None:
            return None
        if not raw:
            return WalRead(end=ReadEnd.CLEAN_END, reason="the file is empty")
        if has_commit_behind_header(self._pread, raw, self._expected_page_size):
            return WalRead(end=ReadEnd.CORRUPT, reason="the file header is damaged, and commits are behind it")
        return WalRead(end=ReadEnd.TORN_TAIL, reason="the file header is incomplete or damaged")

    def _read(self, header: WalHeader, limit: int | None) -> WalRead:
        commits: list[WalCommit] = []
        pending = self._new_pending()
        kept, number, start = 0, self._frames, self._frames
        stride = FRAME_HEADER_SIZE + header.page_size
        frames_max = max(1, COMMIT_BYTES_MAX // stride)
        for pgno, commit, page, checksum in self._accepted(header, limit):
            pending.pages[pgno] = HEADER_SIZE + number * stride + FRAME_HEADER_SIZE
            if pending.data is not None:
                pending.data[pgno] = page
                kept += len(page)
                if kept > KEEP_BYTES_MAX:
                    pending.data = None
            number += 1
            if commit:
                self._frames, self._checksum = number, checksum
                commits.append(WalCommit(page_count=commit, frames=number, pages=pending.pages, data=pending.data))
                pending = self._new_pending()
                if kept > KEEP_BYTES_MAX or number - start >= frames_max:
                    return WalRead(commits=commits, end=ReadEnd.MORE)
        end, reason = self._stopped
        if limit is not None and self._frames < limit:
            end, reason = ReadEnd.CORRUPT, f"{limit} frames are committed, {self._frames} can be read: {reason}"
        return WalRead(commits=commits, end=end, reason=reason)

    def _new_pending(self) -> _Pending:
        return _Pending(data={} if self._keep_data else None)

    def _accepted(self, header: WalHeader, limit: int | None) -> Iterator[tuple[Pgno, int, bytes, tuple[int, int]]]:
        """Give (page, size after commit or 0, content, chain) of frames that count; `_stopped` says why no more."""
        size, salts, trusted = header.page_size, header.salts, self._trusted
        stride, number, checksum, uncommitted = FRAME_HEADER_SIZE + size, self._frames, self._checksum, 0
        count = FIRST_READ_FRAMES
        while True:
            wanted = count if limit is None else min(count, limit - number)
            data = self._pread(HEADER_SIZE + number * stride, wanted * stride) if wanted > 0 else b""
            for at in range(0, len(data) - stride + 1, stride):
                pgno, commit, salt1, salt2, sum1, sum2 = FRAME.unpack_from(data, at)
                page = data[at + FRAME_HEADER_SIZE : at + stride]
                found = (sum1, sum2)
                if (
                    (salt1, salt2) != salts
                    or not pgno
                    or (
                        not trusted
                        and frame_checksum(checksum, data[at : at + 8], page, big_endian=header.big_endian) != found
                    )
                ):
                    self._stopped = self._judge(header, number, checksum, data[at : at + stride], uncommitted)
                    return
                checksum, number = found, number + 1
                uncommitted = 0 if commit else uncommitted + 1
                yield Pgno(pgno), commit, page, checksum
            if len(data) < wanted * stride or wanted <= 0:
                self._stopped = _end_of_file(len(data) % stride, uncommitted)
                return
            count = min(count * 4, max(1, READ_SIZE_MAX // stride))

    def _judge(
        self, header: WalHeader, number: int, checksum: tuple[int, int], frame: bytes, uncommitted: int
    ) -> tuple[ReadEnd, str]:
        """Say what a frame that does not count, and what is behind it, amounts to."""
        pgno, _, salt1, salt2, sum1, sum2 = FRAME.unpack_from(frame)
        is_ours = (salt1, salt2) == header.salts
        place = f"frame {number + 1}"
        if self._trusted:
            if is_ours and not pgno:
                return ReadEnd.CORRUPT, f"{place} names page 0"
            if uncommitted:
                return ReadEnd.TORN_TAIL, f"{uncommitted} frames before {place} are not committed"
            return ReadEnd.CLEAN_END, f"{place} is of an older generation"
        computed = frame_checksum(checksum, frame[:8], frame[FRAME_HEADER_SIZE:], big_endian=header.big_endian)
        if has_commit_behind(self._pread, header, number, computed):
            return ReadEnd.CORRUPT, f"{place} is damaged, and commits are behind it"
        if is_ours or computed == (sum1, sum2) or (salt1, salt2) == (0, 0):
            return ReadEnd.TORN_TAIL, f"{place} does not continue the chain"
        if uncommitted:
            return ReadEnd.TORN_TAIL, f"{uncommitted} frames before {place} are not committed"
        return ReadEnd.CLEAN_END, f"{place} is of an older generation"


def _end_of_file(rest: int, uncommitted: int) -> tuple[ReadEnd, str]:
    if rest:
        return ReadEnd.TORN_TAIL, f"{rest} bytes of an incomplete frame"
    if uncommitted:
        return ReadEnd.TORN_TAIL, f"the last {uncommitted} frames are not committed"
    return ReadEnd.CLEAN_END, "end of file"
