"""Random SQL: schema changes, indexes, FTS5, triggers, WITHOUT ROWID tables, large values, rollbacks, vacuums.

Each step is a script, to be run as one request; some of its statements may fail, which is part of the game. The same
seed gives the same steps. Not here: running them, comparing results.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pando.clock import Random

SETUP = (
    "CREATE TABLE t (id INTEGER PRIMARY KEY, k TEXT, v)",
    "CREATE INDEX t_k ON t (k)",
    "CREATE TABLE w (a TEXT, b INTEGER, v, PRIMARY KEY (b, a)) WITHOUT ROWID",
    "CREATE VIRTUAL TABLE words USING fts5 (body, content='')",
    "CREATE TABLE log (id INTEGER PRIMARY KEY AUTOINCREMENT, what)",
    "CREATE TRIGGER t_log AFTER DELETE ON t BEGIN INSERT INTO log (what) VALUES (old.k); END",
)


class RandomSql:
    """Gives one script after the other. `big`: bytes that a large step writes, about."""

    def __init__(self, rng: Random, *, big: int = 200_000, vacuum: bool = True) -> None:
        self._rng = rng
        self._big = big
        self._steps = [
            *[self.insert, self.update, self.delete, self.pairs, self.words] * 3,
            *[self.blob, self.delete_most, self.grow, self.schema, self.savepoint_spilled, self.rolled_back_spilled],
            *[self.failing, self.shrink_and_grow, self.incremental_vacuum],
            *([self.vacuum] if vacuum else []),
        ]

    def step(self) -> str:
        """Give the next script."""
        return self._rng.choice(self._steps)()

    def insert(self) -> str:
        """A few rows."""
        rows = ", ".join(f"('k{self._rng.randrange(500)}', {self._rng.randrange(10**6)})" for _ in range(5))
        return f"INSERT INTO t (k, v) VALUES {rows}"

    def update(self) -> str:
        """Some rows, by the index."""
        return f"UPDATE t SET v = 'new {self._rng.random()}' WHERE k = 'k{self._rng.randrange(500)}'"

    def delete(self) -> str:
        """Some rows; a trigger writes elsewhere."""
        return f"DELETE FROM t WHERE id % 7 = {self._rng.randrange(7)}"

    def pairs(self) -> str:
        """A table without rowid."""
        row = f"('{self._rng.choice('abc')}', {self._rng.randrange(50)}, randomblob({self._rng.randrange(300)}))"
        return f"INSERT OR REPLACE INTO w (a, b, v) VALUES {row}"

    def words(self) -> str:
        """Full text."""
        body = " ".join(f"word{self._rng.randrange(300)}" for _ in range(20))
        return f"INSERT INTO words (rowid, body) VALUES ({self._rng.randrange(2**40)}, '{body}')"

    def blob(self) -> str:
        """A value over many pages."""
        return f"INSERT INTO t (k, v) VALUES ('blob', zeroblob({self._rng.randrange(self._big)}))"

    def delete_most(self) -> str:
        """Free pages."""
        return f"DELETE FROM t WHERE id % 9 != {self._rng.randrange(9)}"

    def grow(self) -> str:
        """Many rows at once."""
        return self._many(self._big)

    def _many(self, size: int) -> str:
        count = max(2, size // 400)
        return (
            f"WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) "
            f"INSERT INTO t (k, v) SELECT 'm' || i, randomblob({self._rng.randrange(100, 700)}) FROM n"
        )

    def schema(self) -> str:
        """Tables, indexes and columns come and go."""
        number = self._rng.randrange(4)
        return self._rng.choice(
            [
                f"CREATE TABLE extra{number} (a, b, c UNIQUE); INSERT INTO extra{number} VALUES (1, 2, 3)",
                f"DROP TABLE IF EXISTS extra{number}",
                f"ALTER TABLE extra{number} RENAME COLUMN b TO bb",
                f"ALTER TABLE extra{number} DROP COLUMN a",
                f"ALTER TABLE extra{number} RENAME TO extra{(number + 1) % 4}",
                f"CREATE INDEX extra_index{number} ON t (v, k)",
                f"DROP INDEX IF EXISTS extra_index{number}",
                f"ALTER TABLE w ADD COLUMN c{self._rng.randrange(6)}",
                "ANALYZE",
                "REINDEX",
                f"PRAGMA user_version = {self._rng.randrange(1000)}",
            ]
        )

    def savepoint_spilled(self) -> str:
        """More than the page cache holds is written and taken back, then something small is committed."""
        return f"BEGIN; SAVEPOINT a; {self._many(2 * self._big)}; ROLLBACK TO a; {self.insert()}; RELEASE a; COMMIT"

    def rolled_back_spilled(self) -> str:
        """More than the page cache holds, and nothing of it stays."""
        return f"BEGIN; {self._many(2 * self._big)}; ROLLBACK"

    def failing(self) -> str:
        """A transaction that fails half way and is committed as far as it got."""
        return f"BEGIN; {self.insert()}; INSERT INTO t (id) VALUES (1), (1)"

    def shrink_and_grow(self) -> str:
        """Within one transaction."""
        return f"BEGIN; DELETE FROM t; PRAGMA incremental_vacuum; {self._many(self._big // 2)}; COMMIT"

    def incremental_vacuum(self) -> str:
        """Give some free pages back, where auto_vacuum is 2."""
        return f"PRAGMA incremental_vacuum({self._rng.randrange(1, 40)})"

    def vacuum(self) -> str:
        """Write everything anew."""
        return "VACUUM"
