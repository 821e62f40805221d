"""`pando sql`: a shell on a terminal, a filter in a pipe, one statement with -c."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer

from pando.cli.access import find_target
from pando.cli.client import Client
from pando.cli.options import (
    DEFAULT_DIRECTORY,
    DatabaseOption,
    DirectoryOption,
    JsonOption,
    TokenOption,
    UrlArgument,
    UrlOption,
)
from pando.cli.output import failures, say
from pando.cli.render import Mode
from pando.cli.shell import Shell, decode_script
from pando.errors import InvalidRequest

HISTORY_LINES_MAX = 2000
"""Lines that the history file keeps."""


def sql(
    address: UrlArgument = "",
    url: UrlOption = "",
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    token: TokenOption = "",
    database: DatabaseOption = "",
    command: Annotated[str, typer.Option("-c", "--command", help="Run this SQL and end.")] = "",
    mode: Annotated[Mode | None, typer.Option(help="Form of the results.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Run SQL: a shell on a terminal; without one, the statements of standard input, up to the first that fails."""
    is_interactive = not command and sys.stdin.isatty()
    fallback = Mode.TABLE if sys.stdout.isatty() else Mode.LIST
    with failures(as_json=as_json):
        _require_address(address)
        target = find_target(address or url, directory, token)
        with Client(target.url, token=target.token) as client:
            shell = Shell(client, database=database, mode=Mode.JSON if as_json else mode or fallback)
            if is_interactive:
                _interactive(shell, client)
            else:
                shell.run_script(command or decode_script(sys.stdin.buffer.read(), "standard input"))
                if shell.has_transaction:
                    say("the script ends within a transaction, which is rolled back: it has no COMMIT")
                shell.close()


def _require_address(text: str) -> None:
    """Refuse what stands in the address's place and is none: a file, or SQL."""
    if len(text.split()) > 1:
        raise InvalidRequest(f"{text[:80]!r} is no address: SQL is given with -c")
    if text and "://" not in text and Path(text).is_file():
        raise InvalidRequest(f"{text} is a file, no address: `pando sql < {text}` runs it")


def _interactive(shell: Shell, client: Client) -> None:
    shell.run("SELECT 1")
    say(f"connected to {client.url}; .help for help, .quit to leave")
    with _history():
        shell.loop(_read_line)
    shell.close()


def _read_line(prompt: str) -> str | None:
    try:
        return input(prompt)
    except EOFError:
        say("")
        return None


@contextmanager
def _history() -> Iterator[None]:
    """Keep typed lines between runs where this Python has readline; without it the shell works, without history."""
    try:
        import readline
    except ImportError:
        yield
        return
    path = Path.home() / ".pando_history"
    with suppress(OSError):
        readline.read_history_file(path)
    readline.set_history_length(HISTORY_LINES_MAX)
    try:
        yield
    finally:
        with suppress(OSError):  # a home directory that cannot be written costs the history, nothing else
            readline.write_history_file(path)
