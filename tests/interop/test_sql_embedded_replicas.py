"""Clients that keep a local file, unmodified: PyPI libsql and npm @libsql/client, with both protocols of libSQL, on a
primary and on a replica, under steady writes, before and after kills.
"""

import contextlib
from itertools import count

import pytest
from embedded_clients import ClientError, LocalCopy, SteadyWrites, first_protocol, restart_node
from served_nodes import served_nodes

pytestmark = [pytest.mark.interop, pytest.mark.slow, pytest.mark.timeout(600)]

ROLES = ("primary", "replica")
KINDS = ("python", "npm", "npm-first")
_tables = count(1)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    with served_nodes(tmp_path_factory.mktemp("embedded")) as started:
        yield started


@contextlib.contextmanager
def local_copy(kind, nodes, role, path):
    """Start a client on a node; gives it, and what it is to be connected with again."""
    with contextlib.ExitStack() as stack:
        address = nodes.addresses[role]
        if kind == "npm-first":
            server = stack.enter_context(first_protocol(address))
            address = f"127.0.0.1:{server.server_port}"
        copy = LocalCopy(kind.partition("-")[0], path, f"http://{address}", nodes.token)
        stack.callback(copy.close)
        copy.ask("connect")
        copy.ask("sync")
        yield copy
        if kind == "npm-first":
            assert "/wal_log.ReplicationLog/Hello" in server.seen, "the first protocol was to be taken"


def rows_on(nodes, role, table):
    return [tuple(map(int, row)) for row in nodes.rows(role, f"SELECT count(*), sum(id) FROM {table}")]


def rows_here(copy, table):
    return [tuple(row) for row in copy.ask("execute", f"SELECT count(*), sum(id) FROM {table}")]


def work(copy, nodes, table):
    """A schema, inserts that are read at once, transactions."""
    copy.execute(f"CREATE TABLE IF NOT EXISTS {table} (id INTEGER PRIMARY KEY, name TEXT UNIQUE, data BLOB)")
    start = copy.ask("execute", f"SELECT count(*) FROM {table}")[0][0]
    for number in range(5):
        copy.execute(f"INSERT INTO {table} (name) VALUES (?)", f"{start}-{number}")
        assert copy.ask("execute", f"SELECT count(*) FROM {table}") == [[start + number + 1]]
    insert = f"INSERT INTO {table} (name) VALUES ('{start}-gone')"
    assert copy.ask("rolled_back", insert, f"SELECT count(*) FROM {table}") == [[start + 6]]
    assert copy.ask("execute", f"SELECT count(*) FROM {table}") == [[start + 5]]
    with pytest.raises(ClientError, match="UNIQUE"):
        copy.execute(f"INSERT INTO {table} (name) VALUES (?)", f"{start}-0")
    assert rows_here(copy, table) == rows_on(nodes, "primary", table)


def follow_steady_writes(copy, nodes, table, syncs):
    copy.execute(f"CREATE TABLE IF NOT EXISTS {table} (id INTEGER PRIMARY KEY, name TEXT, data BLOB)")
    last = 0
    with SteadyWrites(nodes, "primary", table):
        for _ in range(syncs):
            copy.ask("sync")
            found = rows_here(copy, table)[0][0]
            assert found >= last, "time does not go back"
            last = found
        assert copy.ask("execute", "PRAGMA quick_check") == [["ok"]]
    copy.ask("sync")
    assert rows_here(copy, table) == rows_on(nodes, "primary", table)


def check_file(copy, nodes, table):
    """The file, read by SQLite when its client has gone, is what the primary has."""
    copy.ask("sync")
    copy.close()
    columns = "id, name, length(data), hex(substr(data, 1, 8))"
    found = [tuple(map(str, row)) for row in copy.content(f"(SELECT {columns} FROM {table})")]
    expected = nodes.rows("primary", f"SELECT {columns} FROM {table} ORDER BY 1")
    assert found == [tuple(map(str, row)) for row in expected]


@pytest.mark.parametrize("kind", ["python", "npm-first"])
def test_a_local_copy_is_read_and_written(nodes, tmp_path, kind):
    table = f"table_{next(_tables)}"
    with local_copy(kind, nodes, "replica", tmp_path / "local.db") as copy:
        work(copy, nodes, table)
        check_file(copy, nodes, table)


@pytest.mark.full
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("role", ROLES)
def test_a_local_copy_lives_through_kills(nodes, tmp_path, kind, role):
    table, steady = f"table_{next(_tables)}", f"steady_{next(_tables)}"
    with local_copy(kind, nodes, role, tmp_path / "local.db") as copy:
        work(copy, nodes, table)
        follow_steady_writes(copy, nodes, steady, 20)
        for killed in dict.fromkeys([role, "primary"]):
            restart_node(nodes, killed)
            nodes.wait_for_rows(role, f"SELECT count(*) > 0 FROM {table}", [["1"]], timeout_s=30)
            copy.ask("sync")
            work(copy, nodes, table)
            follow_steady_writes(copy, nodes, steady, 10)
        check_file(copy, nodes, table)


@pytest.mark.full
@pytest.mark.parametrize("kind", KINDS)
def test_a_client_that_is_killed_goes_on_with_its_file(nodes, tmp_path, kind):
    table = f"table_{next(_tables)}"
    path = tmp_path / "local.db"
    with local_copy(kind, nodes, "replica", path) as copy:
        work(copy, nodes, table)
        with SteadyWrites(nodes, "primary", f"{table}"):
            for _ in range(5):
                copy.ask("sync")
            copy.kill()
    with local_copy(kind, nodes, "primary", path) as copy:
        assert rows_here(copy, table) == rows_on(nodes, "primary", table)
        check_file(copy, nodes, table)


@pytest.mark.full
def test_a_copy_that_was_away_passes_several_generations(nodes, tmp_path):
    table = f"table_{next(_tables)}"
    path = tmp_path / "local.db"
    with local_copy("python", nodes, "replica", path) as copy:
        work(copy, nodes, table)
    for _ in range(8):
        nodes.rows("primary", f"INSERT INTO {table} (data) SELECT zeroblob(12000) FROM generate_series(1, 2000)")
    with local_copy("python", nodes, "replica", path) as copy:
        assert rows_here(copy, table) == rows_on(nodes, "primary", table)
        work(copy, nodes, table)
        check_file(copy, nodes, table)


@pytest.mark.full
def test_a_transaction_that_a_restart_ended_is_not_half_done(nodes, tmp_path):
    table = f"table_{next(_tables)}"
    with local_copy("npm-first", nodes, "primary", tmp_path / "local.db") as copy:
        work(copy, nodes, table)
        before = rows_on(nodes, "primary", table)
        copy.ask("begin")
        copy.ask("within", f"INSERT INTO {table} (name) VALUES ('first half')")
        restart_node(nodes, "primary")
        with pytest.raises(ClientError, match="transaction was lost"):
            copy.ask("within", f"INSERT INTO {table} (name) VALUES ('second half')")
        assert rows_on(nodes, "primary", table) == before
        copy.ask("abandon")
        work(copy, nodes, table)
