"""A database as a SQL script, in the form of SQLite's own shell, which reads it back equal.

One transaction; virtual tables are put into the schema as they are: their content is in ordinary tables of theirs.
The connection must show one snapshot from the first piece to the last. Not here: HTTP (`pando.api.dump`), reading it
back (`pando.sql.loading`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import apsw

from pando.store.requests import Value

PIECE_CHARS: Final = 64 * 1024
"""About how long a piece of the script is; a row is never cut."""
_HEAD: Final = "PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\n"
_ROWID_NAMES: Final = ("rowid", "_rowid_", "oid")
_SURE_DIGITS: Final = 15
"""Decimal digits that SQLite reads back exactly whatever they are."""


@dataclass(frozen=True, slots=True)
class _Table:
    name: str
    columns: tuple[str, ...]
    """Those that are stored; generated ones are not inserted."""
    rowid: str
    """By which name its rowid can be asked for; empty if it has none, or none that would not be kept anyway."""


def dump(connection: apsw.Connection, *, preserve_row_ids: bool = False) -> Iterator[str]:
    """Give the script in pieces. Raises apsw.Error."""
    yield from _pieces(_lines(connection, preserve_row_ids))


def _pieces(lines: Iterator[str]) -> Iterator[str]:
    parts: list[str] = []
    size = 0
    for line in lines:
        parts.append(line)
        size += len(line)
        if size >= PIECE_CHARS:
            yield "".join(parts)
            parts, size = [], 0
    yield "".join(parts)


def _lines(connection: apsw.Connection, preserve_row_ids: bool) -> Iterator[str]:
    yield _HEAD
    encoding = str(connection.pragma("encoding"))
    has_virtual = False
    for name, text in _tables(connection):
        if text.startswith("CREATE VIRTUAL TABLE"):
            if not has_virtual:
                has_virtual = True
                yield "PRAGMA writable_schema=ON;\n"
            row = ",".join(_text(value) for value in ("table", name, name))
            yield f"INSERT INTO sqlite_schema(type,name,tbl_name,rootpage,sql)VALUES({row},0,{_text(text)});\n"
            continue
        begin = _beginning(name, text)
        if begin:
            yield begin
            yield from _rows(connection, _describe(connection, name, preserve_row_ids), encoding)
    others = "SELECT sql FROM sqlite_schema WHERE type IN ('index', 'trigger', 'view') AND sql IS NOT NULL"
    for (text,) in connection.execute(f"{others} ORDER BY type DESC, rowid"):
        yield f"{text};\n"
    if has_virtual:
        yield "PRAGMA writable_schema=OFF;\n"
    for name in ("user_version", "application_id"):
        if value := connection.pragma(name):
            yield f"PRAGMA {name}={value};\n"
    yield "COMMIT;\n"


def _tables(connection: apsw.Connection) -> list[tuple[str, str]]:
    found = connection.execute(
        "SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND sql IS NOT NULL "
        "ORDER BY name = 'sqlite_sequence', rowid"
    )
    return [(str(name), str(text)) for name, text in found]


def _beginning(name: str, text: str) -> str:
    """Give what makes a table; empty for SQLite's own ones that are made anew."""
    if name == "sqlite_sequence":
        return "DELETE FROM sqlite_sequence;\n"
    if name == "sqlite_stat1":
        return "ANALYZE sqlite_schema;\n"
    if name.startswith("sqlite_"):
        return ""
    return f"CREATE TABLE IF NOT EXISTS {text.removeprefix('CREATE TABLE ')};\n"


def _describe(connection: apsw.Connection, name: str, preserve_row_ids: bool) -> _Table:
    found = connection.execute("SELECT name, hidden, pk, type FROM pragma_table_xinfo(?)", (name,)).fetchall()
    columns = tuple(str(column) for column, hidden, _, _ in found if not hidden)
    (without_rowid,) = connection.execute(
        "SELECT wr FROM pragma_table_list WHERE schema = 'main' AND name = ?", (name,)
    ).fetchall()[0]
    keys = [str(kind) for _, _, pk, kind in found if pk]
    is_key = len(keys) == 1 and keys[0].upper() == "INTEGER"  # of the rowid, except for a DESC that nobody writes
    taken = {str(column).lower() for column, *_ in found}
    free = [rowid for rowid in _ROWID_NAMES if rowid not in taken]
    wants = preserve_row_ids and not without_rowid and not is_key and not name.startswith("sqlite_")
    return _Table(name, columns, free[0] if wants and free else "")


def _rows(connection: apsw.Connection, table: _Table, encoding: str) -> Iterator[str]:
    """Give an INSERT for each row, in the order in which SQLite reads the table."""
    names = [quoted(column) for column in table.columns]
    target = quoted(table.name)
    if table.rowid:
        names = [table.rowid, *names]
        target += f"({','.join(names)})"
    begin = f"INSERT INTO {target} VALUES("
    done = 0
    try:
        for row in connection.execute(f"SELECT {','.join(names)} FROM {quoted(table.name)}"):
            yield f"{begin}{','.join(_literal(value, connection, encoding) for value in row)});\n"
            done += 1
    except UnicodeDecodeError:  # a text that is none: from here on texts are read as bytes
        bytes_of = [f"CASE typeof({name}) WHEN 'text' THEN CAST({name} AS BLOB) ELSE {name} END" for name in names]
        kinds = [f"typeof({name}) = 'text'" for name in names]
        rest = f"SELECT {','.join([*bytes_of, *kinds])} FROM {quoted(table.name)} LIMIT -1 OFFSET {done}"
        for row in connection.execute(rest):
            yield f"{begin}{','.join(_bytes_literals(row, connection, encoding))});\n"


def _bytes_literals(row: Sequence[Value], connection: apsw.Connection, encoding: str) -> Iterator[str]:
    half = len(row) // 2
    for value, is_text in zip(row[:half], row[half:], strict=True):
        text = _literal(value, connection, encoding)
        yield f"CAST({text} AS TEXT)" if is_text else text


# -- values -----------------------------------------------------------------------------------------------------------


def quoted(name: str) -> str:
    """Give a name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def _literal(value: Value, connection: apsw.Connection, encoding: str) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, str):
        if "\0" in value:  # SQLite's parser ends there
            return f"CAST(X'{value.encode(encoding).hex()}' AS TEXT)"
        return _text(value)
    if isinstance(value, bytes):
        return f"X'{value.hex()}'"
    if isinstance(value, float):
        return _real(value, connection)
    return str(value)


def _text(value: str) -> str:
    """Quote a text on one line: sqld takes a semicolon at the end of any line for the end of a statement, and SQLite's
    shell a carriage return there for part of the line's end.
    """
    text = "'" + value.replace("'", "''") + "'"
    for character, name in (("\r", "\\r"), ("\n", "\\n")):
        if character in value:
            mark = name
            while mark in text:
                mark = f"\\{mark}"
            text = f"replace({text.replace(character, mark)},'{mark}',char({ord(character)}))"
    return text


def _real(value: float, connection: apsw.Connection) -> str:
    """Give a number that SQLite reads back as the same one."""
    if math.isinf(value):
        return "1e999" if value > 0 else "-1e999"
    text = repr(value)
    if len(text.partition("e")[0].strip("-").replace(".", "")) <= _SURE_DIGITS:
        return text
    for other in (text, f"{value:.19e}", f"{value:.17e}", f"{value:.20e}"):
        if connection.execute("SELECT CAST(? AS REAL)", (other,)).get == value:
            return other
    return text
