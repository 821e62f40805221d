"""What a new data directory's `data.db` holds: the tables of migrations, settings and collections, and the first rows.

PocketBase 0.40 opens it as its own, so that a user can go back (tests/interop/test_pocketbase_directory.py):

- it runs each of its own migrations whose file name is not in `_migrations`; with the names in `MIGRATIONS` there, it
  takes the tables, the indexes and the texts of mails as made and upgraded already;
- the one for `auxiliary.db` is left out on purpose, so that it makes its log table there;
- the row `settings` of `_params` may be missing, and it then writes its defaults.

Pure. Not here: the default settings (`pando.records.app_settings`), running the statements.
"""

from __future__ import annotations

from typing import Final

from pando.clock import Random
from pando.records.collections import ddl, system
from pando.records.engine import Statement

MIGRATIONS: Final = (
    "1640988000_init.go",
    "1717233556_v0.23_migrate.go",
    "1717233557_v0.23_migrate2.go",
    "1717233558_v0.23_migrate3.go",
    "1717233559_v0.23_migrate4.go",
    "1763020353_update_default_auth_alert_templates.go",
    "1778828400_normalize_indexes.go",
)
"""Migrations of PocketBase whose outcome a directory of ours has from the beginning."""

_ID: Final = "`id` TEXT PRIMARY KEY DEFAULT ('r'||lower(hex(randomblob(7)))) NOT NULL"
_NOW: Final = "TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%fZ')) NOT NULL"
META_TABLES: Final = (
    "CREATE TABLE `_migrations` (`file` VARCHAR(255) PRIMARY KEY NOT NULL, `applied` INTEGER NOT NULL)",
    f"CREATE TABLE `_params` ({_ID}, `value` JSON DEFAULT NULL, `created` {_NOW}, `updated` {_NOW})",
    f"CREATE TABLE `_collections` ({_ID},"
    " `system` BOOLEAN DEFAULT FALSE NOT NULL,"
    " `type` TEXT DEFAULT 'base' NOT NULL,"
    " `name` TEXT UNIQUE NOT NULL,"
    " `fields` JSON DEFAULT '[]' NOT NULL,"
    " `indexes` JSON DEFAULT '[]' NOT NULL,"
    " `listRule` TEXT DEFAULT NULL,"
    " `viewRule` TEXT DEFAULT NULL,"
    " `createRule` TEXT DEFAULT NULL,"
    " `updateRule` TEXT DEFAULT NULL,"
    " `deleteRule` TEXT DEFAULT NULL,"
    " `options` JSON DEFAULT '{}' NOT NULL,"
    f" `created` {_NOW},"
    f" `updated` {_NOW})",
    "CREATE INDEX `idx__collections_type` ON `_collections` (`type`)",
)
INTERNAL_TABLES: Final = frozenset({"_migrations", "_params", "_collections"})
"""Tables that are not collections' (lower case)."""


def new_directory(random: Random, now: str, now_us: int, column_sql: ddl.ColumnSql) -> list[Statement]:
    """Make everything in an empty database: statements for one transaction.

    `now` is the time as records have it, `now_us` the same in microseconds since 1970.
    """
    applied = [
        Statement("INSERT INTO `_migrations` (`file`, `applied`) VALUES (?, ?)", (name, now_us)) for name in MIGRATIONS
    ]
    made = [
        statement
        for collection in system.first_collections(random, now)
        for statement in ddl.create(collection, column_sql)
    ]
    return [*(Statement(sql) for sql in META_TABLES), *applied, *made]
