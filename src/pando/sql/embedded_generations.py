"""Generations of a database's frames: where each begins and ends, and what a client that is somewhere in one may get.

Pure. A generation begins at a position and has the frames of the commits after it, numbered from 1. It ends by a rule
that every node knows: with the first commit that brings it to `GENERATION_FRAMES`, or before the first commit of
another epoch. So its frames need no agreement. That clients may go on to the next one does: it is written down, with
the position, once that position can be lost no more. Not here: reading the log (`pando.sql.embedded_log`), the table
(`pando.sql.embedded_table`).
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from pando.types import TXID, Checksum, Epoch

GENERATION_FRAMES: Final = 16_384
"""A client holds all frames of a generation in its WAL, here 64 MiB, and moves them into the file at its end."""
GENERATION_NUMBER_MAX: Final = (1 << 32) - 1
"""Clients count in 32 bits."""
LINE_SPACING: Final = 1_000_000
"""Numbers between the newest generation and the first of another line, which a line never grows by."""
_POINT_FRAMES: Final = 64
"""Of so many frames one has a point in the index."""


@dataclass(frozen=True, slots=True)
class Generation:
    """One of them: its number, the commit after which it begins, and the epoch of its commits.

    A line is the generations that follow one another; the first of one is where an export was made. The epoch is part
    of it, or commits of an old primary that got lost could have the numbers of those that took their place.
    """

    number: int
    epoch: Epoch
    txid: TXID
    checksum: Checksum
    is_first: bool = False


class Chain:
    """The generations of a database that are written down, by number."""

    def __init__(self, generations: Iterable[Generation] = ()) -> None:
        self.by_number: Mapping[int, Generation] = {one.number: one for one in generations}

    def get(self, number: int) -> Generation | None:
        """Give one if it is known."""
        return self.by_number.get(number)

    def following(self, number: int) -> Generation | None:
        """Give the one that clients go on to."""
        found = self.by_number.get(number + 1)
        return None if found is None or found.is_first else found

    def top(self, number: int) -> int:
        """Give the newest that clients of this one may reach."""
        while self.following(number) is not None:
            number += 1
        return number

    def newest_line(self) -> Generation | None:
        """Give the newest generation of the newest line."""
        return self.by_number[max(self.by_number)] if self.by_number else None

    def first_of_new_line(self, wall_s: int) -> int:
        """Give a number that nobody has heard of: also not before this table was restored from a backup."""
        return max(max(self.by_number, default=0) + LINE_SPACING, wall_s)


class Ending(StrEnum):
    """Why the frames of a generation stop where they do."""

    OPEN = "open"
    """The log goes no further: more will come."""
    FULL = "full"
    """It has all its frames."""
    EPOCH = "epoch"
    """What follows is of another epoch."""
    LOST = "lost"
    """The log here does not follow the generation's base: nothing can be said of it on this node."""


@dataclass(frozen=True, slots=True)
class CommitSize:
    """What counting needs of a commit of the log."""

    epoch: Epoch
    min_txid: TXID
    max_txid: TXID
    pre_checksum: Checksum
    post_checksum: Checksum
    frames: int


class FrameIndex:
    """Which frames of a generation the commits of the log are. Grows with the log; about 16 bytes for 64 frames."""

    def __init__(self, generation: Generation, frames_max: int = GENERATION_FRAMES) -> None:
        self.generation = generation
        self.txid = generation.txid
        """The last commit counted."""
        self.checksum = generation.checksum
        self.next_epoch = generation.epoch
        """Epoch of the commit that ended it, or of its own."""
        self.frames = 0
        self.ending = Ending.OPEN
        self._frames_max = frames_max
        self._point_txids = array("Q", [generation.txid])
        self._point_frames = array("Q", [0])
        self._point_checksums = array("Q", [generation.checksum])

    def add(self, commit: CommitSize) -> bool:
        """Count the next commit of the log; False if it is none of this generation's."""
        if self.ending is not Ending.OPEN:
            return False
        if commit.min_txid != self.txid + 1 or commit.pre_checksum != self.checksum:
            self.ending = Ending.LOST
            return False
        if commit.epoch != self.generation.epoch:
            self.ending, self.next_epoch = Ending.EPOCH, commit.epoch
            return False
        self.frames += commit.frames
        self.txid, self.checksum = commit.max_txid, commit.post_checksum
        if self.frames >= self._point_frames[-1] + _POINT_FRAMES:
            self._point_txids.append(commit.max_txid)
            self._point_frames.append(self.frames)
            self._point_checksums.append(commit.post_checksum)
        if self.frames >= self._frames_max:
            self.ending = Ending.FULL
        return True

    def place(self, frame: int) -> tuple[TXID, int, Checksum]:
        """Give a commit after which reading comes to this frame, the frames before and the checksum there."""
        at = bisect_right(self._point_frames, frame - 1) - 1
        while at > 0 and self._point_frames[at - 1] == self._point_frames[at]:
            at -= 1  # commits without pages: the first of them is as good
        return TXID(self._point_txids[at]), self._point_frames[at], Checksum(self._point_checksums[at])


class Standing(StrEnum):
    """What a client that asks for a frame is to be told."""

    FRAMES = "frames"
    """There are such frames."""
    CAUGHT_UP = "caught up"
    """It has all that there is now."""
    PASSES = "passes"
    """It has all frames of a generation that has ended."""
    AHEAD = "ahead"
    """It has more than is known here."""
    LOST = "lost"
    """Its generation cannot be counted here."""


def standing(index: FrameIndex, frame: int) -> Standing:
    """Judge a client that wants this frame next."""
    if index.ending is Ending.LOST:
        return Standing.LOST
    if frame <= index.frames:
        return Standing.FRAMES
    if frame > index.frames + 1:
        return Standing.AHEAD
    return Standing.CAUGHT_UP if index.ending is Ending.OPEN else Standing.PASSES


def make_following(index: FrameIndex) -> Generation:
    """Name the generation that comes after one that has ended."""
    return Generation(index.generation.number + 1, index.next_epoch, index.txid, index.checksum)
