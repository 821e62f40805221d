"""Clients that know nothing of Pando work with every node, over HTTP and WebSocket: the libSQL clients of npm, PyPI
and Go, and the client of the protocol itself for npm.
"""

import json
import subprocess
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from client_packages import need_go_program, need_npm_package, need_pypi_package
from relay import relay
from served_nodes import served_nodes

pytestmark = [pytest.mark.interop, pytest.mark.slow, pytest.mark.timeout(600)]

CLIENTS = Path(__file__).parent / "clients"
NPM_CLIENT = ("@libsql/client", "0.18.0")
PYPI_CLIENT = ("libsql-client", "0.3.1")
PYPI_LIBSQL = ("libsql", "0.1.11")
ROLES = ("primary", "replica")
SCHEMES = ("http", "ws")
_tables = count(1)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    with served_nodes(tmp_path_factory.mktemp("libsql")) as started:
        yield started


def talk(command, nodes, role, scheme, *more):
    """Run a client's script on a table of its own; gives what it found, and the table."""
    table = f"table_{next(_tables)}"
    url = f"{scheme}://{nodes.addresses[role]}"
    arguments = [*map(str, command), url, nodes.token, *map(str, more), table]
    result = subprocess.run(arguments, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr[-2000:]
    return json.loads(result.stdout), table


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("role", ROLES)
def test_npm_client(nodes, role, scheme):
    package = need_npm_package(*NPM_CLIENT)
    command = ["node", CLIENTS / "libsql_client.mjs", package / "lib-esm" / "node.js"]
    found, table = talk(command, nodes, role, scheme)
    assert found == {
        "inserted": [1, "1"],
        "values": ["first", [0, 255], "9007199254740993", 0.5, None],
        "columns": [["name", "value", "big", "half", "absent"], ["TEXT", "", "", "", ""]],
        "batch": "2",
        "failedBatch": "SQLITE_CONSTRAINT",
        "afterFailedBatch": "2",
        "inTransaction": "3",
        "afterCommit": "4",
        "inRolledBack": "0",
        "afterRollback": "4",
        "afterClose": "4",
        "reading": "4",
        "readOnly": "SQLITE_READONLY",
        "noTable": "SQLITE_ERROR",
        "syntax": "SQL_PARSE_ERROR",
        "unique": "SQLITE_CONSTRAINT",
        "arguments": "ARGS_INVALID",
        "afterMultiple": "6",
        "parallelReads": True,
        "afterParallelWrites": "66",
    }
    for each in ROLES:
        nodes.wait_for_rows(each, f"SELECT count(*), max(id) FROM {table}", [["66", "66"]])


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("role", ROLES)
def test_pypi_client(nodes, role, scheme):
    python = need_pypi_package(*PYPI_CLIENT)
    found, table = talk([python, CLIENTS / "libsql_client_py.py"], nodes, role, scheme)
    expected = {
        "inserted": [1, 1],
        "values": ["first", "00ff", (1 << 62) + 1, 0.5, None],
        "batch": 2,
        "failed_batch": "SQLITE_CONSTRAINT",
        "after_failed_batch": 2,
        "no_table": "SQLITE_ERROR",
        "syntax": "SQL_PARSE_ERROR",
        "unique": "SQLITE_CONSTRAINT",
        "after_parallel_writes": 42,
    }
    if scheme == "http":
        expected["transactions"] = "TRANSACTIONS_NOT_SUPPORTED"  # the client's own limit
        rows = 42
    else:
        expected |= {"in_transaction": 43, "after_commit": 43, "in_rolled_back": 0, "after_rollback": 43}
        expected["after_close"] = rows = 43
    assert found == expected
    for each in ROLES:
        nodes.wait_for_rows(each, f"SELECT count(*) FROM {table}", [[str(rows)]])


PROTOCOLS = {
    "http-2": ("http", 2, ""),
    "http-3-protobuf": ("http", 3, ""),
    "ws-1": ("ws", 1, "hrana1"),
    "ws-2": ("ws", 2, "hrana2"),
    "ws-3": ("ws", 3, "hrana3"),
    "ws-3-protobuf": ("ws", 3, ""),
}
"""The client takes the newest version; a subprotocol named here is all that it comes to ask for."""


@pytest.mark.parametrize("role", ROLES)
def test_pypi_libsql(nodes, role):
    """Without a local file; as in the module sqlite3, a statement that writes begins a transaction."""
    python = need_pypi_package(*PYPI_LIBSQL)
    found, table = talk([python, CLIENTS / "libsql_py.py"], nodes, role, "http")
    assert found == {
        "inserted": [1, 1],
        "columns": ["name", "value", str((1 << 62) + 1), "0.5", "NULL"],
        "values": ["first", "00ff", (1 << 62) + 1, 0.5, None],
        "in_transaction": [True, 3, 1],
        "after_commit": [False, 3, 3],
        "in_rolled_back": 0,
        "after_rollback": 3,
        "after_script": 5,
        "errors": ["no such table", "syntax error", "UNIQUE constraint failed"],
        "after_all": 25,
    }
    for each in ROLES:
        nodes.wait_for_rows(each, f"SELECT count(*) FROM {table}", [["25"]])


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("role", ROLES)
def test_protocol_client(nodes, role, protocol):
    scheme, version, only = PROTOCOLS[protocol]
    package = need_npm_package(*NPM_CLIENT).parent / "hrana-client"
    command = ["node", CLIENTS / "hrana_client.mjs", package / "lib-esm" / "index.js"]
    offered = b"hrana3-protobuf,hrana3,hrana2,hrana1" if version == 3 else b"hrana2,hrana1"
    with relay(nodes.addresses[role], [(offered, only.encode())] if only else []) as address:
        found, _ = talk(command, replace(nodes, addresses={**nodes.addresses, role: address}), role, scheme, version)
    batch = ["10", "SQL_INPUT_ERROR", ["30", "31"], True, "50"]
    columns = [{"name": "id", "decltype": "INTEGER"}, {"name": "n", "decltype": "TEXT"}]
    expected = {
        "version": version,
        "run": [1, "1"],
        "query": [["id", "name", "value"], 1, "one", str(1 << 62)],
        "row": 3,
        "value": "ř",
        "blob": [0, 255],
        "noRow": True,
        "errors": ["SQL_PARSE_ERROR", "SQL_MANY_STATEMENTS", "SQL_NO_STATEMENT", "ARGS_INVALID", "SQLITE_CONSTRAINT"],
        "batch": batch,
        "isolation": ["0", "1"],
        "streams": True,
        "closedStream": "ClosedError",
        "closedClient": "ClosedError",
    }
    if version >= 2:
        expected |= {"describe": [[":id"], columns, False, True], "sequenceError": "SQL_INPUT_ERROR"}
        expected |= {"stored": "3", "closedText": "ClosedError"}
    if version == 3:
        expected |= {"cursor": batch, "largeCursor": 20_000, "cursorTransaction": "2", "autocommit": [True, False]}
    assert found == expected


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("role", ROLES)
def test_go_client(nodes, role, scheme):
    found, _ = talk([need_go_program(CLIENTS / "golibsql")], nodes, role, scheme)
    assert found == {
        "inserted": [1, 1],
        "values": ["first", 2, True, 0.5, False],
        "inTransaction": 2,
        "afterCommit": 2,
        "inRolledBack": 0,
        "afterRollback": 2,
        "prepared": "committed",
        "noTable": True,
        "unique": True,
        "afterErrors": 2,
    }
