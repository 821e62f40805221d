"""The SQL shell: reads statements and dot commands, runs them on one stream, writes results.

A transaction that is begun stays open until it is committed or rolled back, as in any shell. Not here: options (see
`cli.sql`), cutting text into statements (see `cli.statements`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from rich.console import Console

from pando.cli.client import Client, SqlStream
from pando.cli.output import console, say, table
from pando.cli.render import Mode, write_rows
from pando.cli.statements import is_blank, split_commands, split_statements
from pando.cli.wire import Rows, SqlValue, statement
from pando.errors import CallerError, InvalidRequest, PandoError, SqlError

HELP = """\
.tables [PATTERN]   names of tables and views
.schema [PATTERN]   statements that made them
.databases          databases of the cluster
.use NAME           go on in another database
.mode [MODE]        table, csv, json, line or list
.read FILE          run the statements of a file
.help               this text
.quit               leave; an open transaction is rolled back"""

SCRIPT_STATEMENTS = 200
"""Statements of a script in one request; a script stops at the first that fails."""
SCRIPT_BYTES = 512 * 1024
"""Statement text of a script in one request."""
READ_DEPTH_MAX = 10
"""How deep files may be read by files."""
_LEAVE = (".quit", ".exit")
_LOST_STATEMENT = "if it was a write, it may have taken effect or not"
_LOST_TRANSACTION = "the transaction cannot be gone on with; it is rolled back unless this was its COMMIT"

_TABLES = """SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
 AND name LIKE ? ORDER BY name"""
_SCHEMA = """SELECT sql || ';' AS sql FROM sqlite_schema WHERE sql IS NOT NULL AND tbl_name LIKE ? ORDER BY rowid"""


class Shell:
    """A shell on one server and one database at a time. Errors are raised; the loops decide whether to go on."""

    def __init__(
        self, client: Client, *, database: str = "", mode: Mode = Mode.TABLE, out: Console | None = None
    ) -> None:
        self._client = client
        self._database = database
        self._mode = mode
        self._out = out or console()
        self._stream: SqlStream = client.stream(database)
        self._reading = 0
        self._commands: dict[str, Callable[[str], None]] = {
            ".tables": self._show_tables,
            ".schema": self._show_schema,
            ".databases": self._show_databases,
            ".use": self._use,
            ".mode": self._set_mode,
            ".read": self._read_file,
            ".help": lambda _: self._out.print(HELP),
        }

    @property
    def prompt(self) -> str:
        """The prompt for a new statement; a star stands for an open transaction."""
        return f"{self._database or 'data'}{'*' if self._stream.is_open else ''}> "

    # -- running ----------------------------------------------------------------------------------------------------

    def run(self, sql: str, args: Iterable[SqlValue] = ()) -> Rows:
        """Run one statement on the shell's stream."""
        return self._stream.execute(sql, args)

    @property
    def has_transaction(self) -> bool:
        """True while a transaction is open."""
        return self._stream.is_open

    def run_script(self, text: str) -> None:
        """Run all statements and dot commands of a text, writing results; raises at the first that fails."""
        for part in split_commands(text):
            if part in _LEAVE:
                break
            if part.startswith("."):
                self._dot(part)
            else:
                self._run_statements(part)

    def _run_statements(self, text: str) -> None:
        """Run statements, many in one request."""
        statements, rest = split_statements(text)
        if not is_blank(rest):
            statements.append(rest)
        for chunk in _chunks(statements):
            self._run_chunk(chunk)

    def _run_chunk(self, chunk: list[str]) -> None:
        answers = self._stream.batch(statement(sql) for sql in chunk)
        for sql, answer in zip(chunk, answers, strict=True):
            if isinstance(answer, SqlError):
                raise SqlError(f"{answer.message} in: {_shorten(sql)}", code=answer.code)
            if answer is not None:
                write_rows(answer, self._mode, self._out)

    def run_line(self, text: str) -> None:
        """Run what was typed: a dot command or a statement; writes its result."""
        if text.startswith("."):
            self._dot(text)
            return
        rows = self.run(text)
        write_rows(rows, self._mode, self._out)
        if not rows.columns and rows.affected_row_count:
            say(f"{rows.affected_row_count} rows changed")

    def loop(self, read: Callable[[str], str | None]) -> None:
        """Run what `read` gives for a prompt until it gives None or .quit; an error is told and the loop goes on."""
        waiting = ""
        while True:
            try:
                line = read("   ...> " if waiting else self.prompt)
            except KeyboardInterrupt:  # at the prompt it means: forget what was typed
                waiting = ""
                say("")
                continue
            if line is None or (not waiting and line.strip() in _LEAVE):
                break
            had_transaction = self.has_transaction
            try:
                waiting = self._take_line(waiting, line)
            except KeyboardInterrupt:
                self._client.close()  # a server stops reading what nobody waits for
                waiting = ""
                say(f"interrupted: {_LOST_TRANSACTION if had_transaction else _LOST_STATEMENT}")

    def _take_line(self, waiting: str, line: str) -> str:
        if not waiting and line.strip().startswith("."):
            self._tell_errors(line.strip())
            return ""
        statements, rest = split_statements(waiting + line + "\n")
        for sql in statements:
            self._tell_errors(sql)
        return rest

    def _tell_errors(self, text: str) -> None:
        try:
            self.run_line(text)
        except PandoError as error:
            say(f"error: {error.message} [{error.code}]")

    def close(self) -> None:
        """End the stream."""
        self._stream.close()

    # -- dot commands ------------------------------------------------------------------------------------------------

    def _dot(self, text: str) -> None:
        name, _, rest = text.partition(" ")
        command = self._commands.get(name)
        if command is None:
            raise CallerError(f"there is no command {name}: see .help")
        command(rest.strip())

    def _show_tables(self, pattern: str) -> None:
        for (name,) in self.run(_TABLES, (pattern or "%",)).rows:
            self._out.print(name)

    def _show_schema(self, pattern: str) -> None:
        for (sql,) in self.run(_SCHEMA, (pattern or "%",)).rows:
            self._out.print(sql)

    def _show_databases(self, _: str) -> None:
        self._out.print(table(("database",), [(name,) for name in list_databases(self._client)]))

    def _use(self, name: str) -> None:
        if not name:
            raise CallerError("say which database: .use NAME")
        stream = self._client.stream(name)
        stream.execute("SELECT 1")
        self._stream.close()
        self._database, self._stream = name, stream

    def _set_mode(self, name: str) -> None:
        if not name:
            self._out.print(self._mode.value)
            return
        try:
            self._mode = Mode(name)
        except ValueError as error:
            raise CallerError(f"there is no mode {name!r}: use one of {', '.join(Mode)}") from error

    def _read_file(self, name: str) -> None:
        try:
            text = decode_script(Path(name).expanduser().read_bytes(), name)
        except OSError as error:
            raise CallerError(f"{name!r} cannot be read: {error.strerror or error}") from error
        if self._reading >= READ_DEPTH_MAX:
            raise CallerError(f"files that read files may be {READ_DEPTH_MAX} deep: {name!r} is too much")
        self._reading += 1
        try:
            self.run_script(text)
        finally:
            self._reading -= 1


def decode_script(data: bytes, name: str) -> str:
    """Give the text of a script; raises InvalidRequest when it is not UTF-8."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidRequest(
            f"{name} is no text in UTF-8 (byte {error.start}): a database file is taken by `pando import`"
        ) from error


def list_databases(client: Client) -> list[str]:
    """Ask a server for the names of its databases."""
    found = client.get_json("/cluster/databases")
    names = found.get("databases") if isinstance(found, dict) else found
    if not isinstance(names, list):
        raise CallerError(f"{client.url} does not answer as a Pando server", code="NOT_PANDO")
    return [str(entry.get("name", "")) if isinstance(entry, dict) else str(entry) for entry in names]


def _chunks(statements: list[str]) -> Iterator[list[str]]:
    chunk: list[str] = []
    size = 0
    for sql in statements:
        if chunk and (len(chunk) >= SCRIPT_STATEMENTS or size + len(sql) > SCRIPT_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(sql)
        size += len(sql)
    if chunk:
        yield chunk


def _shorten(sql: str) -> str:
    text = " ".join(sql.split())
    return text if len(text) <= 120 else text[:117] + "..."
