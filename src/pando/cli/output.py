"""How the commands speak: data on standard output (tables, or JSON with --json), people's text on standard error.

Without a terminal everything is plain lines without colour. Exit statuses: 0 done, 1 failed or degraded, 2 wrong use.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from pando.errors import InvalidDatabaseName, InvalidRequest, InvalidSetting, PandoError

FAILED = 1
WRONG_USE = 2
PLAIN_WIDTH = 10_000
"""Width of a table without a terminal: lines are not folded, so that a program can read them."""

Report = Callable[[int, int], None]
"""Called with what is done and the total."""


def console(file: IO[str] | None = None) -> Console:
    """Give a console on `file` (standard output): coloured on a terminal, plain and unfolded otherwise."""
    file = file or sys.stdout
    is_terminal = file.isatty()
    width = None if is_terminal else PLAIN_WIDTH
    return Console(file=file, width=width, highlight=False, soft_wrap=not is_terminal, markup=False, emoji=False)


def say(text: str) -> None:
    """Write a line for people to standard error."""
    print(text, file=sys.stderr, flush=True)


def write_json(data: object) -> None:
    """Write one JSON document to standard output."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(data), indent=2).decode() + "\n")
    sys.stdout.flush()


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None) -> Table:
    """Make a table; numbers stand to the right."""
    made = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    kept = [tuple(row) for row in rows]
    for index, name in enumerate(columns):
        numeric = bool(kept) and all(isinstance(row[index], int | float) for row in kept)
        made.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in kept:
        made.add_row(*("" if value is None else str(value) for value in row))
    return made


def show(data: object, *, as_json: bool, human: Callable[[Console], None]) -> None:
    """Write `data` as JSON, or let `human` write it for people."""
    if as_json:
        write_json(data)
    else:
        human(console())


def format_bytes(size: float) -> str:
    """Give a size for people, in powers of 1024."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


@contextmanager
def failures(*, as_json: bool = False) -> Iterator[None]:
    """Turn an error into a message on standard error and the exit status: the one place where commands end badly."""
    try:
        yield
    except PandoError as error:
        if as_json:
            fields = {"code": error.code, "message": error.message, "retryable": error.retryable}
            say(msgspec.json.encode({"error": fields}).decode())
        else:
            say(f"error: {error.message} [{error.code}]")
        is_wrong_use = isinstance(error, InvalidSetting | InvalidRequest | InvalidDatabaseName)
        raise typer.Exit(WRONG_USE if is_wrong_use else FAILED) from error


@contextmanager
def progress(title: str, *, lines_to: IO[str] | None = None) -> Iterator[Report]:
    """Show progress while the block runs: a bar on a terminal, else a line for each tenth (on standard error)."""
    if sys.stderr.isatty():
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console(sys.stderr)) as bar:
            task = bar.add_task(title, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
    else:
        yield _percent_lines(title, lines_to or sys.stderr)


def _percent_lines(title: str, out: IO[str]) -> Report:
    shown = -1

    def report(done: int, total: int) -> None:
        nonlocal shown
        tenth = done * 10 // total if total else 10
        if tenth > shown:
            shown = tenth
            print(f"{title}: {tenth * 10} % ({done} of {total})", file=out, flush=True)

    return report
