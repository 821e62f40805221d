"""What clients send when they connect, migrate and look at a schema; what nobody may do; on a primary and a replica."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest
from service_bench import CLOSE, Node, sql

CLIENTS = {
    "PocketBase": [
        "PRAGMA busy_timeout(10000)", "PRAGMA journal_mode(WAL)", "PRAGMA journal_size_limit(200000000)",
        "PRAGMA synchronous(NORMAL)", "PRAGMA foreign_keys(ON)", "PRAGMA temp_store(MEMORY)",
        "PRAGMA cache_size(-32000)", "PRAGMA wal_checkpoint(TRUNCATE)", "PRAGMA optimize",
        "SELECT name, sql FROM sqlite_master WHERE sql <> ''", "SELECT * FROM PRAGMA_TABLE_INFO('t')",
    ],
    "SQLAlchemy": [
        'PRAGMA main.table_info("t")', 'PRAGMA temp.table_info("t")', 'PRAGMA main.table_xinfo("t")',
        "PRAGMA main.table_list", 'PRAGMA main.foreign_key_list("t")', 'PRAGMA temp.foreign_key_list("t")',
        'PRAGMA main.index_list("t")', 'PRAGMA temp.index_list("t")', 'PRAGMA main.index_info("i")',
        "PRAGMA database_list", "PRAGMA read_uncommitted", "PRAGMA read_uncommitted = 0",
        "SELECT sql FROM (SELECT * FROM sqlite_master UNION ALL SELECT * FROM sqlite_temp_master)",
    ],
    "Django": [
        "PRAGMA foreign_keys = ON", "PRAGMA legacy_alter_table = ON", "PRAGMA foreign_keys = OFF",
        "PRAGMA foreign_keys", "PRAGMA foreign_key_check", 'PRAGMA foreign_key_check("t")', 'PRAGMA index_xinfo("i")',
        "PRAGMA defer_foreign_keys = ON", "PRAGMA defer_foreign_keys = OFF",
    ],
    "Prisma": [
        "PRAGMA defer_foreign_keys=ON", "PRAGMA foreign_keys=OFF", "PRAGMA foreign_keys=ON",
        "PRAGMA busy_timeout = 5000", "PRAGMA table_info(t)", "PRAGMA encoding",
        "SELECT * FROM pragma_foreign_key_list('t')", "PRAGMA foreign_key_check",
        "SELECT * FROM pragma_index_list('t')", "PRAGMA journal_mode", "PRAGMA synchronous = NORMAL",
    ],
    "Drizzle": [
        "PRAGMA foreign_keys=OFF", "PRAGMA table_xinfo(t)", "PRAGMA foreign_keys=ON", "PRAGMA journal_mode = WAL",
    ],
    "GORM": [
        "PRAGMA foreign_keys = ON", "PRAGMA busy_timeout = 5000", "PRAGMA journal_mode = WAL",
        "SELECT sqlite_version()",
    ],
    "better-sqlite3 settings": [
        "PRAGMA mmap_size = 268435456", "PRAGMA wal_autocheckpoint = 1000", "PRAGMA auto_vacuum",
        "PRAGMA page_size = 8192", "PRAGMA analysis_limit = 400", "PRAGMA secure_delete = FAST",
        "PRAGMA recursive_triggers = ON", "PRAGMA cache_spill = OFF", "PRAGMA threads = 4",
        "PRAGMA wal_checkpoint(RESTART)", "PRAGMA shrink_memory", "PRAGMA automatic_index = ON",
    ],
    "JDBC and tools": [
        "PRAGMA collation_list", "PRAGMA function_list", "PRAGMA module_list", "PRAGMA pragma_list",
        "PRAGMA compile_options", "PRAGMA integrity_check", "PRAGMA quick_check(1)", "PRAGMA freelist_count",
        "PRAGMA page_count", "PRAGMA user_version", "PRAGMA application_id", "PRAGMA schema_version",
        "PRAGMA data_version", "PRAGMA count_changes = OFF", "PRAGMA full_column_names",
        "PRAGMA short_column_names = ON", "PRAGMA legacy_file_format", "PRAGMA stats",
        "PRAGMA locking_mode = EXCLUSIVE", "PRAGMA locking_mode = NORMAL", "PRAGMA synchronous", "PRAGMA cache_size",
    ],
}  # fmt: skip

FORBIDDEN = [
    "ATTACH 'x.db' AS x", "ATTACH ':memory:' AS x", "DETACH main", "VACUUM INTO 'x.db'", "SELECT load_extension('x')",
    "SELECT fts3_tokenizer('simple')", "PRAGMA writable_schema = ON", "PRAGMA writable_schema = RESET",
    "PRAGMA trusted_schema = ON", "PRAGMA temp_store_directory = '/etc'", "PRAGMA data_store_directory = '/etc'",
    "PRAGMA query_only = ON", "PRAGMA schema_version = 5", "PRAGMA key = 'x'", "PRAGMA rekey = 'x'",
    "PRAGMA encoding = 'UTF-16'", "PRAGMA max_page_count = 1", "PRAGMA case_sensitive_like = ON",
    "PRAGMA hard_heap_limit = 1", "PRAGMA soft_heap_limit = 1", "CREATE TEMP TABLE x(a)",
    "CREATE TEMPORARY VIEW x AS SELECT 1", "CREATE TABLE temp.x(a)",
    "CREATE TEMP TRIGGER x AFTER INSERT ON t BEGIN SELECT 1; END", "EXPLAIN PRAGMA writable_schema = ON",
    "PRAGMA main.writable_schema = 1", "PRAGMA journal_mode_of_mine = x",
]  # fmt: skip
MISSING = [
    "SELECT readfile('/etc/passwd')",
    "SELECT writefile('x', 'y')",
    "SELECT edit('x')",
    "SELECT * FROM fsdir('/')",
]
"""Functions of SQLite's shell that reach outside: there are none."""

WATCHED = (
    "journal_mode", "locking_mode", "synchronous", "page_size", "cache_size", "temp_store", "wal_autocheckpoint",
    "writable_schema", "trusted_schema", "query_only", "busy_timeout", "mmap_size", "journal_size_limit",
    "foreign_keys", "legacy_alter_table", "recursive_triggers", "secure_delete", "max_page_count", "encoding",
    "automatic_index", "ignore_check_constraints", "defer_foreign_keys", "read_uncommitted", "threads",
)  # fmt: skip


@pytest.fixture(params=[True, False], ids=["primary", "replica"])
def node(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path, is_primary=request.param)
    node(sql("create index i on t(b)"), CLOSE)
    node.store.replicate("data")
    yield node
    node.close()


def settings_of(node: Node) -> list[dict[str, Any]]:
    reads = node.service._runs.pool.ready("data")
    assert reads is not None
    connections: list[apsw.Connection] = [reads.inline.connection, node.store.database("data").writer]
    return [{name: each.pragma(name) for name in WATCHED} for each in connections]


@pytest.mark.parametrize("client", CLIENTS)
def test_what_clients_send_is_answered_and_changes_nothing_for_others(node: Node, client: str) -> None:
    before = settings_of(node)
    for text in CLIENTS[client]:
        (result, _) = node(sql(text), CLOSE).results
        assert result["type"] == "ok", text
    assert settings_of(node) == before
    assert {path.name.partition(".")[0] for path in node.store.directory.iterdir()} == {"data"}


@pytest.mark.parametrize("text", FORBIDDEN)
def test_no_way_out_and_none_to_settings_of_the_node(node: Node, text: str) -> None:
    before = settings_of(node)
    error = node(sql(text)).error()
    assert error["code"] == "SQLITE_AUTH"
    assert len(error["message"]) > len("SQLite error: not authorized: ") + 20
    described = node({"type": "describe", "sql": text}).error()
    assert described["code"] == "SQLITE_AUTH"
    scripted = node({"type": "sequence", "sql": f"select 1; {text}"}).error()
    assert scripted["code"] == "SQLITE_AUTH"
    assert settings_of(node) == before


@pytest.mark.parametrize("text", MISSING)
def test_functions_of_the_shell_are_not_there(node: Node, text: str) -> None:
    assert "no such" in node(sql(text)).error()["message"]


@pytest.mark.parametrize(
    ("text", "columns", "row"),
    [
        ("PRAGMA journal_mode", ["journal_mode"], ["wal"]),
        ("PRAGMA journal_mode = DELETE", ["journal_mode"], ["wal"]),
        ("PRAGMA locking_mode = EXCLUSIVE", ["locking_mode"], ["normal"]),
        ("PRAGMA busy_timeout = 77", ["timeout"], ["77"]),
        ("PRAGMA wal_checkpoint(FULL)", ["busy", "log", "checkpointed"], ["0", "0", "0"]),
        ("PRAGMA foreign_keys", ["foreign_keys"], ["1"]),
        ("SELECT group_concat(value) FROM generate_series(1, 3)", ["group_concat(value)"], ["1,2,3"]),
    ],
)
def test_answers(node: Node, text: str, columns: list[str], row: list[str]) -> None:
    asked = node(sql(text), CLOSE)
    assert [column["name"] for column in asked.results[0]["response"]["result"]["cols"]] == columns
    assert asked.rows() == [row]


def test_what_is_written_is_written(node: Node) -> None:
    node(sql("PRAGMA user_version = 7"), sql("PRAGMA application_id = 9"), CLOSE)
    node.store.replicate("data")
    assert node(sql("PRAGMA user_version"), CLOSE).rows() == [["7"]]
    assert node(sql("PRAGMA application_id"), CLOSE).rows() == [["9"]]


def test_optimize_may_run_alone_and_in_a_transaction(node: Node) -> None:
    asked = node(sql("begin"), sql("pragma optimize"), sql("analyze"), sql("commit"), CLOSE)
    assert [each["type"] for each in asked.results] == ["ok"] * 5
