"""`pando token`: make a token for SQL, from the cluster's secret in a directory."""

from __future__ import annotations

from typing import Annotated

import typer

from pando.cli.access import make_token, read_secret
from pando.cli.options import DEFAULT_DIRECTORY, DirectoryOption, JsonOption
from pando.cli.output import failures, show
from pando.errors import InvalidRequest

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def token(
    read_only: Annotated[bool, typer.Option("--read-only", help="The token may not write.")] = False,
    database: Annotated[str, typer.Option("--database", "-d", help="Only for this database.")] = "",
    expires: Annotated[
        str, typer.Option(help="How long it lasts: 90s, 15m, 12h or 30d; for ever when not given.")
    ] = "",
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    as_json: JsonOption = False,
) -> None:
    """Make a token. Who holds it may use the databases, so treat it as a password."""
    with failures(as_json=as_json):
        life_s = parse_duration(expires) if expires else None
        made = make_token(read_secret(directory), read_only=read_only, database=database, life_s=life_s)
    data = {"token": made, "read_only": read_only, "database": database or None, "expires_s": life_s}
    show(data, as_json=as_json, human=lambda out: out.print(made))


def parse_duration(text: str) -> float:
    """Read a number with a unit s, m, h or d; gives seconds. Raises InvalidRequest."""
    unit = _UNITS.get(text[-1:])
    number = text[:-1]
    if unit is None or not number.isdecimal() or len(number) > 9 or not int(number):
        raise InvalidRequest(f"{text!r} is no duration: write 90s, 15m, 12h or 30d")
    return int(number) * unit
