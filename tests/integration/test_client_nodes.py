"""Python programs with several node URLs while nodes are killed: what was acknowledged is there, once, and reads never
go back. Real processes on loopback; what a program does when it is told of a lost transaction is what the docs say.
"""

import asyncio
import contextlib
import threading
from collections import Counter

import pytest
from cluster_kit import HEAL_S, running, wait_until

import pando
from pando import client

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with running(tmp_path_factory.mktemp("client")) as made:
        yield made


@pytest.fixture
def table(cluster, request):
    """A table without any constraint that would hide rows that come twice."""
    name = f"t{abs(hash(request.node.name)) % 10**8}"
    with connect(cluster, autocommit=True) as connection:
        connection.execute(f"CREATE TABLE {name}(key TEXT, part INTEGER)")
    connection.close()
    return name


def connect(cluster, **options):
    return pando.connect(cluster.node_urls, token=cluster.sql.token, **options)


class Program:
    """A thread that works until it is told to end, and knows what it was told."""

    def __init__(self, cluster, table, number):
        self.cluster, self.table, self.name = cluster, table, f"{type(self).__name__}{number}"
        self.acknowledged, self.unknown, self.errors = [], [], []
        self.steps = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        self._thread.join(90)
        assert not self._thread.is_alive()

    def _work(self):
        connection = self.connect()
        try:
            while not self._end.is_set():
                self.step(connection, f"{self.name}-{self.steps}")
                self.steps += 1
        except Exception as error:  # noqa: BLE001 - for the test to see
            self.errors.append(error)
        finally:
            connection.close()

    def connect(self):
        return connect(self.cluster)


class Single(Program):
    """Writes rows that stand alone, and reads each back."""

    def connect(self):
        return connect(self.cluster, autocommit=True)

    def step(self, connection, key):
        try:
            connection.execute(f"INSERT INTO {self.table} VALUES (?, 0)", (key,))
        except client.OutcomeUnknown:
            self.unknown.append(key)
            return
        self.acknowledged.append(key)
        found = connection.execute(f"SELECT count(*) FROM {self.table} WHERE key = ?", (key,)).fetchone()
        assert found == (1,), f"{key} was acknowledged and is read {found[0]} times"


class Grouped(Program):
    """Writes three rows in a transaction; begins again when it is lost."""

    def step(self, connection, key):
        try:
            connection.execute(f"INSERT INTO {self.table} VALUES (?, 1)", (key,))
            connection.executemany(f"INSERT INTO {self.table} VALUES (?, ?)", [(key, 2), (key, 3)])
            connection.commit()
        except client.TransactionLost:
            connection.rollback()
        except client.OutcomeUnknown:
            self.unknown.append(key)
        else:
            self.acknowledged.append(key)


class Reading(Program):
    """Reads at all nodes in turn: what is there may only become more."""

    seen = 0

    def step(self, connection, key):
        (count,) = connection.execute(f"SELECT count(*) FROM {self.table}").fetchone()
        assert count >= self.seen, f"a read went back from {self.seen} to {count} rows"
        self.seen = count


def is_going_on(cluster, programs):
    """Whether each program has come further since this was made."""
    before = [program.steps for program in programs]
    return lambda: (
        all(now.steps > then + 1 for now, then in zip(programs, before, strict=True))
        or any(program.errors for program in programs)
    )


def goes_on(cluster, programs, seconds=30.0):
    wait_until(is_going_on(cluster, programs), seconds, cluster.logs, cluster.poll)
    assert [program.errors for program in programs] == [[]] * len(programs)


def check(cluster, table, programs):
    """Every acknowledged row is there, none is there twice, and groups are whole."""
    writers = [program for program in programs if not isinstance(program, Reading)]
    for url in cluster.node_urls:
        connection = pando.connect(url, token=cluster.sql.token, freshness="strong")
        rows = connection.execute(f"SELECT key, part FROM {table}").fetchall()
        connection.close()
        assert [row for row, times in Counter(rows).items() if times > 1] == [], "rows are there twice"
        parts = Counter(key for key, _ in rows)
        for writer in writers:
            size = 3 if isinstance(writer, Grouped) else 1
            assert len(writer.acknowledged) > 2
            assert [key for key in writer.acknowledged if parts[key] != size] == []
            own = {key for key in parts if key.startswith(f"{writer.name}-")}
            assert {key for key in own if parts[key] != size} == set(), "a part of a transaction is there"
            assert own <= {*writer.acknowledged, *writer.unknown}, "a row is there that was said not to be"


def test_programs_survive_the_death_of_a_replica_and_of_the_primary(cluster, table):
    programs = [Single(cluster, table, 0), Grouped(cluster, table, 1), Reading(cluster, table, 2)]
    with contextlib.ExitStack() as running:
        for program in programs:
            running.enter_context(program)
        goes_on(cluster, programs)
        for number in (1, 0):
            cluster.nodes[number].kill_all()
            goes_on(cluster, programs)
    assert [program.errors for program in programs] == [[], [], []]
    check(cluster, table, programs)


def test_a_lost_node_inside_of_a_transaction_says_begin_again(cluster, table):
    connection = connect(cluster, retry_s=0.5)
    connection.execute(f"INSERT INTO {table} VALUES ('lost', 1)")
    place = connection._session._pinned
    node = next(node for node in cluster.nodes if node.url == place.url)
    node.kill("web-0")
    with pytest.raises(client.TransactionLost, match="begin it again"):
        connection.execute(f"INSERT INTO {table} VALUES ('lost', 2)")
    with pytest.raises(client.TransactionLost):
        connection.commit()
    connection.rollback()

    def is_done():
        with contextlib.suppress(client.OperationalError), connection:
            connection.execute(f"INSERT INTO {table} VALUES ('again', 1)")
            return True

    wait_until(is_done, 20, cluster.logs, cluster.poll)
    assert connection.execute(f"SELECT key, part FROM {table}").fetchall() == [("again", 1)]
    connection.close()


def test_reads_are_spread_and_writes_go_to_the_primary(cluster, table):
    wait_until(cluster.is_whole, HEAL_S * 4, cluster.logs, cluster.poll)
    connection = connect(cluster, autocommit=True)

    def primary_is_known():
        connection.execute(f"DELETE FROM {table}")
        return connection._session._nodes.primary is not None

    wait_until(primary_is_known, 20, cluster.logs)
    asked = Counter()
    send = connection._transport.send

    def count(wish):
        asked[wish.node.url, wish.path != "/health" and b"INSERT" in wish.body] += 1
        return send(wish)

    connection._transport.send = count
    for number in range(12):
        connection.execute(f"INSERT INTO {table} VALUES (?, 1)", (f"k{number}",))
        assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (number + 1,)
    assert {url for url, is_write in asked if not is_write} == set(cluster.node_urls)
    assert connection._session._nodes.primary.url == cluster.node_urls[0]
    assert asked[cluster.node_urls[0], True] == 12
    connection.close()


# -- long runs ---------------------------------------------------------------------------------------------------------


KILLS = [(0, "whole"), (1, "web-0"), (0, "store"), (2, "whole"), (0, "web-0"), (1, "applier"), (0, "supervisor")]


@pytest.mark.full
def test_programs_survive_every_kind_of_death(cluster, table):
    kinds = [Single, Grouped, Reading, Single, Grouped, Reading]
    programs = [kind(cluster, table, number) for number, kind in enumerate(kinds)]
    with contextlib.ExitStack() as running:
        for program in programs:
            running.enter_context(program)
        goes_on(cluster, programs)
        for number, role in KILLS * 3:
            with contextlib.suppress(KeyError, ProcessLookupError):
                cluster.nodes[number].kill_all() if role == "whole" else cluster.nodes[number].kill(role)
            goes_on(cluster, programs, 60.0)
    check(cluster, table, programs)


async def insert_all(cluster, table, name, done, end):
    """Tasks of an asyncio program: transactions, some of which are cancelled at any moment."""
    step = 0
    async with pando.aconnect(cluster.node_urls, token=cluster.sql.token) as connection:
        while not end.is_set():
            key, step = f"{name}-{step}", step + 1
            try:
                async with asyncio.timeout(0.002 * (step % 7) if step % 3 == 0 else None):
                    async with connection:
                        for part in (1, 2, 3):
                            await connection.execute(f"INSERT INTO {table} VALUES (?, ?)", (key, part))
            except TimeoutError:
                await connection.rollback()
            except client.TransactionLost:
                await connection.rollback()
            except client.OutcomeUnknown:
                pass
            else:
                done.append(key)


@pytest.mark.full
def test_asyncio_programs_that_are_cancelled_lose_nothing_they_were_told(cluster, table):
    done = []

    async def program():
        end = asyncio.Event()
        tasks = [asyncio.create_task(insert_all(cluster, table, f"task{number}", done, end)) for number in range(4)]
        for number in (1, 0, 2, 0):
            target = len(done) + 60
            async with asyncio.timeout(60):
                while len(done) < target:
                    cluster.poll()
                    await asyncio.wait(tasks, timeout=0.02, return_when=asyncio.FIRST_EXCEPTION)
                    assert not any(task.done() for task in tasks), tasks
            cluster.nodes[number].kill_all()
        target = len(done) + 60
        while len(done) < target:
            cluster.poll()
            await asyncio.wait(tasks, timeout=0.02)
        end.set()
        await asyncio.gather(*tasks)

    asyncio.run(program())
    connection = connect(cluster, freshness="strong")
    rows = Counter(connection.execute(f"SELECT key, part FROM {table}").fetchall())
    connection.close()
    assert max(rows.values()) == 1
    parts = Counter(key for key, _ in rows)
    assert set(parts.values()) == {3}
    assert [key for key in done if parts[key] != 3] == []
