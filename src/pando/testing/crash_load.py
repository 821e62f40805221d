"""The clients of the crash harness: writers of several kinds and readers that watch for time going back, as threads.

Every write inserts a group (`crash_ledger`) of rows; a trigger keeps their number in the table `total`, so that one row
tells a reader whether time went back. Not here: killing, comparing nodes.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from pando.clock import Random
from pando.testing.crash_ledger import EXPECTED_CODES, Fate, Group, Ledger, fate_of
from pando.testing.sql_client import CLOSE, Answer, Json, NoAnswer, NotSent, SqlClient, execute, statement, transaction

SCHEMA: Final = (
    "CREATE TABLE kept (key TEXT PRIMARY KEY, grp TEXT NOT NULL, cycle INTEGER NOT NULL, body BLOB)",
    "CREATE INDEX kept_by_cycle ON kept (cycle, grp)",
    "CREATE TABLE strange (key TEXT PRIMARY KEY, body BLOB)",  # for tests in which another program writes
    "CREATE TABLE total (id INTEGER PRIMARY KEY CHECK (id = 1), made INTEGER NOT NULL, gone INTEGER NOT NULL)",
    "INSERT INTO total VALUES (1, 0, 0)",
    "CREATE TRIGGER count_made AFTER INSERT ON kept BEGIN UPDATE total SET made = made + 1; END",
    "CREATE TRIGGER count_gone AFTER DELETE ON kept BEGIN UPDATE total SET gone = gone + 1; END",
)
INSERT: Final = "INSERT INTO kept VALUES (?, ?, ?, randomblob(?))"
MADE: Final = "SELECT made FROM total"
BODY_SIZES: Final = (0, 30, 300, 3_000, 20_000)
BATCH_ROWS: Final = 10
INTERACTIVE_ROWS_MAX: Final = 4
PAUSE_AFTER_FAILURE_S: Final = 0.02
LARGE_ROWS: Final = 200
LARGE_INSERT: Final = """
WITH RECURSIVE row(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM row WHERE n < ?)
INSERT INTO kept SELECT ? || '-' || n, ?, ?, randomblob(abs(random()) % 8000) FROM row"""
"""Some 800 KB in one statement, far more than a commit has otherwise; the rows stay, so they must not be larger."""
UPKEEP: Final = (
    "VACUUM",
    "REINDEX",
    "ANALYZE",
    "CREATE INDEX IF NOT EXISTS kept_by_size ON kept (length(body))",
    "DROP INDEX IF EXISTS kept_by_size",
    "CREATE TABLE IF NOT EXISTS passing (a, b)",
    "DROP TABLE IF EXISTS passing",
    "PRAGMA incremental_vacuum",
)
UPKEEP_SHARE: Final = 0.01
QUORUM_SHARE: Final = 0.1
ABANDON_SHARE: Final = 0.1
"""Interactive transactions that are rolled back by their client."""
MOVE_SHARE: Final = 0.15
"""Requests of an interactive transaction that go to another node than its BEGIN."""
LOOK_SHARE: Final = 0.2
"""Acknowledged writes that are read back at once on another node, with their bookmark."""


@dataclass(slots=True)
class Disturbance:
    """Which addresses are allowed to fail now, since something there was killed."""

    _urls: set[str] = field(default_factory=set)

    def begin(self, urls: Sequence[str]) -> None:
        """These may fail from now on."""
        self._urls.update(urls)

    def end(self) -> None:
        """All serve again."""
        self._urls.clear()

    def covers(self, url: str) -> bool:
        """Tell whether a failure there is no violation."""
        return url in self._urls


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What all clients share."""

    urls: Sequence[str]
    token: str
    reader_token: str
    ledger: Ledger
    disturbance: Disturbance
    stopping: threading.Event


class Writer:
    """Inserts groups at random nodes, in one of three ways, and notes what it is told."""

    def __init__(self, world: World, rng: Random) -> None:
        self._world = world
        self._rng = rng
        self._client = SqlClient(world.token)
        self._bookmark = ""

    def run(self) -> None:
        """Write until told to stop."""
        with self._client:
            while not self._world.stopping.is_set():
                if self._rng.random() < UPKEEP_SHARE:
                    self._upkeep()
                ways = (self._single, self._batch, self._interactive, self._large)
                group, fate = self._rng.choices(ways, (50, 25, 20, 2))[0]()
                self._world.ledger.settle(group, fate)
                if fate is not Fate.DONE:
                    self._world.stopping.wait(PAUSE_AFTER_FAILURE_S)
                elif self._rng.random() < LOOK_SHARE:
                    self._look(group)

    def _url(self) -> str:
        return self._rng.choice(self._world.urls)

    def _row(self, group: Group, number: int) -> Json:
        size = self._rng.choice(BODY_SIZES)
        return statement(INSERT, f"{group.name}-{number}", group.name, group.cycle, size)

    def _headers(self) -> dict[str, str]:
        return {"Pando-Durability": "quorum"} if self._rng.random() < QUORUM_SHARE else {}

    def _single(self) -> tuple[Group, Fate]:
        group = self._world.ledger.begin(1)
        request = {"type": "execute", "stmt": self._row(group, 0)}
        return group, self._send(self._url(), [request, CLOSE], self._headers())

    def _batch(self) -> tuple[Group, Fate]:
        group = self._world.ledger.begin(BATCH_ROWS)
        rows = [self._row(group, number) for number in range(group.size)]
        return group, self._send(self._url(), [transaction(rows), CLOSE], self._headers())

    def _large(self) -> tuple[Group, Fate]:
        group = self._world.ledger.begin(LARGE_ROWS)
        request = execute(LARGE_INSERT, LARGE_ROWS, group.name, group.name, group.cycle)
        return group, self._send(self._url(), [request, CLOSE], self._headers())

    def _upkeep(self) -> None:
        """Change the schema, or move many pages; what becomes of it shows in the bytes of the nodes."""
        self._send(self._url(), [execute(self._rng.choice(UPKEEP)), CLOSE], {})

    def _send(self, url: str, requests: list[Json], headers: dict[str, str]) -> Fate:
        try:
            answer = self._client.pipeline(url, requests, headers=headers)
        except NotSent:
            return Fate.REFUSED
        except NoAnswer:
            return Fate.UNKNOWN
        return self._judge(url, answer)

    def _judge(self, url: str, answer: Answer, *, has_baton: bool = False) -> Fate:
        error = answer.error
        fate = fate_of(error, has_baton=has_baton)
        if fate is None:
            self._world.ledger.complain(f"a write at {url} got {error}")
            return Fate.UNKNOWN
        if fate is Fate.DONE and error is None:
            self._bookmark = answer.bookmark
        return fate

    # -- interactive transactions --

    def _interactive(self) -> tuple[Group, Fate]:
        """BEGIN, rows, COMMIT, each in a request of its own that continues the stream, now and then at another node.

        Whatever fails before COMMIT was sent leaves nothing behind.
        """
        group = self._world.ledger.begin(self._rng.randint(1, INTERACTIVE_ROWS_MAX))
        rows: list[Json] = [{"type": "execute", "stmt": self._row(group, number)} for number in range(group.size)]
        home = self._url()
        baton: str | None = None
        for request in (execute("BEGIN"), *rows):
            found = self._step(home, request, baton)
            if found is None:
                self._give_up(baton)
                return group, Fate.REFUSED
            baton = found
        assert baton is not None
        is_abandoned = self._rng.random() < ABANDON_SHARE
        end = [execute("ROLLBACK" if is_abandoned else "COMMIT"), CLOSE]
        fate = self._finish(self._url_of_step(home), end, baton)
        return group, Fate.REFUSED if is_abandoned else fate

    def _url_of_step(self, home: str) -> str:
        return self._url() if self._rng.random() < MOVE_SHARE else home

    def _step(self, home: str, request: Json, baton: str | None) -> str | None:
        """Give the next baton, None when the transaction is lost."""
        url = self._url_of_step(home)
        try:
            answer = self._client.pipeline(url, [request], baton=baton)
        except (NotSent, NoAnswer):
            return None
        if self._judge(url, answer, has_baton=baton is not None) is not Fate.DONE:
            return None
        found: str | None = answer.json.get("baton")
        if found is None:
            self._world.ledger.complain(f"an open transaction at {url} got no baton: {answer.body[:300]!r}")
        return found

    def _give_up(self, baton: str | None) -> None:
        """Close the stream at any node: left alone it keeps the writer from others for seconds, as documented."""
        if baton is None:
            return
        for url in self._world.urls:
            with contextlib.suppress(NotSent, NoAnswer):
                self._client.pipeline(url, [CLOSE], baton=baton)
                return

    def _finish(self, url: str, end: list[Json], baton: str) -> Fate:
        try:
            answer = self._client.pipeline(url, end, baton=baton, headers=self._headers())
        except NotSent:
            self._give_up(baton)
            return Fate.REFUSED
        except NoAnswer:
            return Fate.UNKNOWN
        return self._judge(url, answer, has_baton=True)

    # -- own writes --

    def _look(self, group: Group) -> None:
        """Read what was just written on another node, with the bookmark."""
        url = self._url()
        if not self._bookmark:
            self._world.ledger.complain(f"the write of {group.name} was answered without a bookmark")
            return
        sql = "SELECT count(*) FROM kept WHERE grp = ?"
        try:
            answer = self._client.run(url, sql, group.name, pando_bookmark=self._bookmark)
        except (NotSent, NoAnswer):
            return
        error = answer.error
        if error is None and answer.rows != [[group.size]]:
            self._world.ledger.complain(
                f"{url} with bookmark {self._bookmark} shows {answer.rows[0][0]} of {group.size} rows of {group.name}"
            )
        elif error is not None and error.get("code") not in EXPECTED_CODES:
            self._world.ledger.complain(f"a read at {url} got {error}")


class Reader:
    """Reads the number of rows ever made, again and again: it must never become smaller."""

    def __init__(
        self,
        world: World,
        name: str,
        token: str,
        next_url: Callable[[], str],
        *,
        headers: dict[str, str],
        carries_bookmark: bool = False,
        is_local: bool = False,
    ) -> None:
        """`is_local`: the reads need nobody else, so they may fail only while something of this node is dead."""
        self._world = world
        self._name = name
        self._token = token
        self._next_url = next_url
        self._headers = headers
        self._carries_bookmark = carries_bookmark
        self._is_local = is_local
        self._bookmark = ""
        self._last = (-1, "")
        self.answers = 0

    def run(self) -> None:
        """Read until told to stop. What was seen before is remembered in the next cycle."""
        with SqlClient(self._token) as client:
            while not self._world.stopping.is_set():
                url = self._next_url()
                if not self._read(client, url):
                    self._world.stopping.wait(PAUSE_AFTER_FAILURE_S)

    def _read(self, client: SqlClient, url: str) -> bool:
        headers = dict(self._headers)
        if self._carries_bookmark and self._bookmark:
            headers["Pando-Bookmark"] = self._bookmark
        was_disturbed = self._world.disturbance.covers(url)
        try:
            answer = client.pipeline(url, [execute(MADE), CLOSE], headers=headers)
        except (NotSent, NoAnswer) as error:
            self._failed(url, was_disturbed, repr(error))
            return False
        told = answer.error
        if told is not None:
            self._failed(url, was_disturbed, str(told))
            if told.get("code") not in EXPECTED_CODES:
                self._world.ledger.complain(f"{self._name} at {url} got {told}")
            return False
        self._compare(url, answer)
        return True

    def _failed(self, url: str, was_disturbed: bool, error: str) -> None:
        if self._is_local and not was_disturbed and not self._world.disturbance.covers(url):
            self._world.ledger.complain(f"{self._name}: nothing was killed at {url}, but a read failed: {error}")

    def _compare(self, url: str, answer: Answer) -> None:
        made = answer.rows[0][0]
        self.answers += 1
        last, where = self._last
        if made < last:
            self._world.ledger.complain(
                f"{self._name}: time went back, {last} rows made at {where}, then {made} at {url}"
                f" (sent {self._bookmark or 'no bookmark'}, got {answer.bookmark})"
            )
        self._last = (made, url)
        self._bookmark = answer.bookmark


def make_readers(world: World, seed: Callable[[str], Random]) -> list[Reader]:
    """Give a reader per node that asks for nothing, one per node that reads locally, and one that moves around."""
    found = []
    for url in world.urls:
        found.append(Reader(world, f"session reader of {url}", world.reader_token, partial(str, url), headers={}))
        local = {"Pando-Freshness": "eventual"}
        found.append(
            Reader(world, f"local reader of {url}", world.token, partial(str, url), headers=local, is_local=True)
        )
    rng = seed("roaming reader")
    roaming = Reader(
        world, "roaming reader", world.token, partial(rng.choice, world.urls), headers={}, carries_bookmark=True
    )
    return [*found, roaming]


class Load:
    """All clients of one cycle, running in threads between `start` and `stop`."""

    def __init__(self, world: World, writers: Sequence[Writer], readers: Sequence[Reader]) -> None:
        self._world = world
        self._clients = [*writers, *readers]
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin to write and read."""
        self._world.stopping.clear()
        self._threads = [threading.Thread(target=self._guard, args=(one,), daemon=True) for one in self._clients]
        for thread in self._threads:
            thread.start()

    def _guard(self, client: Writer | Reader) -> None:
        try:
            client.run()
        except BaseException as error:
            self._world.ledger.complain(f"a client of the harness failed: {error!r}")
            raise

    def stop(self, timeout_s: float = 30.0) -> bool:
        """Tell all to stop and wait for their last answers; False when one hangs."""
        self._world.stopping.set()
        for thread in self._threads:
            thread.join(timeout_s)
        is_over = not any(thread.is_alive() for thread in self._threads)
        self._threads = []
        return is_over
