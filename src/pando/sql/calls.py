"""What is asked of the SQL service besides a pipeline, and what it gives. Words only."""

from __future__ import annotations

from dataclasses import dataclass

from pando.errors import PandoError
from pando.sql.access import FULL_ACCESS, Access
from pando.sql.batons import Baton
from pando.sql.freshness import SESSION, Freshness
from pando.sql.readers import Watch
from pando.store.requests import Result
from pando.types import Bookmark


@dataclass(frozen=True, slots=True)
class Call:
    """What a request says besides its pipeline."""

    database: str
    access: Access = FULL_ACCESS
    bookmark: Bookmark | None = None
    freshness: Freshness = SESSION
    durability: str = ""
    caller: bytes = b""
    """Who asks: the token, as it was sent."""
    watch: Watch | None = None
    """Returns when the client is gone; asked only while a long read runs."""


@dataclass(frozen=True, slots=True)
class Answer:
    """JSON, and the bookmark of what was read and written (None if nothing was)."""

    body: bytes
    bookmark: Bookmark | None


@dataclass(frozen=True, slots=True)
class CursorAnswer:
    """The result of a batch, not written yet."""

    result: Result | str
    baton: str | None
    base_url: str | None
    bookmark: Bookmark | None


class BatonElsewhere(PandoError):
    """The stream is held by another process: the request must be sent there as it is."""

    code = "BATON_ELSEWHERE"

    def __init__(self, baton: Baton) -> None:
        super().__init__(f"the stream is on node {baton.node}, web process {baton.web}")
        self.baton = baton
