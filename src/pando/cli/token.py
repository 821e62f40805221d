"""`pando token`: make a token, list those that were made with a node's knowledge, revoke one.

A token is made by a node that answers, which notes it; else here, from the cluster's secret, and then it is in no list.
Not here: what a token holds (`pando.node.tokens`), the list (`pando.api.token_routes`).
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
import typer
from rich.console import Console

from pando.cli.access import Target, find_secret, find_target, read_secret
from pando.cli.client import TIMEOUT_S, Client, ServerError, Unreachable
from pando.cli.options import DEFAULT_DIRECTORY, DirectoryOption, JsonOption, TokenOption, UrlOption
from pando.cli.output import failures, say, show, table
from pando.errors import CallerError, InvalidRequest, PandoError
from pando.types import parse_database_name

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_ASK_S = 5.0
"""How long a node that nobody named may take before the token is made without it."""
_LIST_FULL = "TOKENS_TOO_MANY"
"""What a node answers that can note no more; scripts that make token after token go on."""


class Action(StrEnum):
    """What to do with tokens."""

    CREATE = "create"
    LIST = "list"
    REVOKE = "revoke"


class _Made(msgspec.Struct, frozen=True):
    """What is wanted of a token, and what came of it."""

    token: str
    id: str
    name: str
    read_only: bool
    databases: list[str] | None
    expires_s: float | None
    listed: bool

    @property
    def database(self) -> str | None:
        return self.databases[0] if self.databases and len(self.databases) == 1 else None


class _Answer(msgspec.Struct):
    token: str
    id: str


class _Row(msgspec.Struct):
    id: str
    name: str
    rights: str
    databases: list[str] | None
    created: str
    expires: str | None
    revoked: str | None


class _Rows(msgspec.Struct):
    tokens: list[_Row]


class _Revoked(msgspec.Struct):
    revoked: str
    listed: bool


_Kind = TypeVar("_Kind", _Answer, _Rows, _Revoked)


class _Wanted(msgspec.Struct, frozen=True, omit_defaults=True):
    name: str = ""
    read_only: bool = False
    databases: tuple[str, ...] = ()
    expires_s: float | None = None
    admin: bool | None = None


def token(
    action: Annotated[Action, typer.Argument(help="What to do.")] = Action.CREATE,
    which: Annotated[
        str, typer.Argument(metavar="ID", help="The token to revoke: its id from the list, or the token itself.")
    ] = "",
    read_only: Annotated[bool, typer.Option("--read-only", help="The token may not write.")] = False,
    database: Annotated[
        list[str] | None, typer.Option("--database", "-d", help="Only for this database; may be given several times.")
    ] = None,
    sql_only: Annotated[
        bool, typer.Option("--sql-only", help="Opens SQL on all databases, but none of the cluster's routes.")
    ] = False,
    expires: Annotated[
        str, typer.Option(help="How long it lasts: 90s, 15m, 12h or 30d; for ever when not given.")
    ] = "",
    name: Annotated[str, typer.Option(help="What it is for; shown in the list.")] = "",
    offline: Annotated[
        bool,
        typer.Option("--offline", help="Make it from the secret in --dir, without asking a node; it is not listed."),
    ] = False,
    url: UrlOption = "",
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    token: TokenOption = "",
    as_json: JsonOption = False,
) -> None:
    """Make a token (also without a word after `token`), list them, revoke one.

    Who holds a token may use the databases, so treat it as a password. A node that answers notes what it makes; without
    one the token is made from the secret in --dir: it holds all the same, but is not in the list, and only who still
    has the token can revoke it. A revocation reaches every connected node within about a second.
    """
    with failures(as_json=as_json):
        if (action is Action.REVOKE) != bool(which):
            raise InvalidRequest("say `pando token [create]`, `pando token list` or `pando token revoke ID`")
        if action is Action.CREATE:
            wanted = _Wanted(
                name,
                read_only,
                tuple(parse_database_name(text) for text in database or ()),
                parse_duration(expires) if expires else None,
                False if sql_only else None,
            )
            is_asked = bool(url or token)
            made = _create(wanted, find_target(url, directory, token), directory, is_asked=is_asked, offline=offline)
            _show_made(made, as_json=as_json)
        else:
            target = find_target(url, directory, token)
            with Client(target.url, token=target.token) as client:
                if action is Action.LIST:
                    _list(client, as_json=as_json)
                else:
                    _revoke(client, which, as_json=as_json)


# -- create ------------------------------------------------------------------------------------------------------------


def _create(wanted: _Wanted, target: Target, directory: Path, *, is_asked: bool, offline: bool) -> _Made:
    """Have a node make the token, or make it here when none was named and none can."""
    if not offline:
        try:
            return _made_by_node(wanted, target, timeout_s=None if is_asked else _ASK_S)
        except PandoError as error:
            if find_secret(directory) is None or not _is_absent(error, is_asked=is_asked):
                raise
    made = _made_here(wanted, directory)
    say("not listed: no node was asked that could note it; keep the token if you may want to revoke it")
    return made


def _is_absent(error: PandoError, *, is_asked: bool) -> bool:
    """Tell whether no node could note the token, in contrast to one that refuses what is wanted.

    Who answers at an address that nobody named may be anybody.
    """
    if isinstance(error, Unreachable) or error.code == _LIST_FULL:
        return True
    if isinstance(error, ServerError):
        return not is_asked and (error.status in {401, 403, 404, 405} or error.status >= 500)
    return not is_asked and error.code == "NOT_PANDO"


def _made_by_node(wanted: _Wanted, target: Target, *, timeout_s: float | None) -> _Made:
    with Client(target.url, token=target.token, timeout_s=timeout_s or TIMEOUT_S) as client:
        answer = _read(client.post_json("/cluster/tokens", body=wanted), _Answer, client.url)
    return _noted(wanted, answer.token, answer.id, listed=True)


def _made_here(wanted: _Wanted, directory: Path) -> _Made:
    from pando.node.tokens import issue_token

    made = issue_token(
        read_secret(directory),
        name=wanted.name,
        read_only=wanted.read_only,
        databases=wanted.databases,
        life_s=wanted.expires_s,
        is_admin=wanted.admin,
    )
    return _noted(wanted, made.token, made.id, listed=False)


def _noted(wanted: _Wanted, made: str, token_id: str, *, listed: bool) -> _Made:
    databases = list(wanted.databases) or None
    return _Made(made, token_id, wanted.name, wanted.read_only, databases, wanted.expires_s, listed)


def _show_made(made: _Made, *, as_json: bool) -> None:
    data = {**msgspec.structs.asdict(made), "database": made.database}
    show(data, as_json=as_json, human=lambda out: out.print(made.token))


# -- list, revoke ------------------------------------------------------------------------------------------------------


def _list(client: Client, *, as_json: bool) -> None:
    found = _read(client.get_json("/cluster/tokens"), _Rows, client.url)

    def human(out: Console) -> None:
        columns = ("id", "name", "rights", "databases", "created", "expires", "revoked")
        rows = [
            (
                row.id,
                row.name,
                row.rights,
                "all" if row.databases is None else " ".join(row.databases),
                row.created,
                row.expires,
                row.revoked,
            )
            for row in found.tokens
        ]
        out.print(table(columns, rows))

    show({"tokens": [msgspec.structs.asdict(row) for row in found.tokens]}, as_json=as_json, human=human)


def _revoke(client: Client, which: str, *, as_json: bool) -> None:
    done = _read(client.post_json("/cluster/tokens/revoke", body={"id": _id_of(which)}), _Revoked, client.url)
    if not done.listed:
        say(f"no token with the id {done.revoked} was listed; if there is one, it is taken no more")
    data = {"revoked": done.revoked, "listed": done.listed}
    show(data, as_json=as_json, human=lambda out: out.print(f"revoked {done.revoked}"))


def _id_of(which: str) -> str:
    """Give the id of what may be an id, or a whole token."""
    if which.count(".") != 2:
        return which
    from pando.node.tokens import token_id

    found = token_id(which)
    if not found:
        raise InvalidRequest(
            "this token has no id, so it cannot be revoked by itself: another secret (PANDO_SECRET) ends all tokens"
        )
    return found


def _read(found: object, kind: type[_Kind], url: str) -> _Kind:
    try:
        return msgspec.convert(found, kind)
    except msgspec.ValidationError as error:
        raise CallerError(f"{url} does not answer as a Pando server: {error}", code="NOT_PANDO") from error


def parse_duration(text: str) -> float:
    """Read a number with a unit s, m, h or d; gives seconds. Raises InvalidRequest."""
    unit = _UNITS.get(text[-1:])
    number = text[:-1]
    if unit is None or not number.isdecimal() or len(number) > 9 or not int(number):
        raise InvalidRequest(f"{text!r} is no duration: write 90s, 15m, 12h or 30d")
    return int(number) * unit
