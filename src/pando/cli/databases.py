"""`pando databases`: list them, create one."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from pando.cli.access import find_target
from pando.cli.client import Client
from pando.cli.options import DEFAULT_DIRECTORY, DirectoryOption, JsonOption, TokenOption, UrlOption
from pando.cli.output import failures, show, table
from pando.cli.shell import list_databases
from pando.errors import InvalidRequest
from pando.types import parse_database_name


class Action(StrEnum):
    """What to do with databases."""

    LIST = "list"
    CREATE = "create"


def databases(
    action: Annotated[Action, typer.Argument(help="What to do.")] = Action.LIST,
    name: Annotated[str, typer.Argument(help="Name of the database to create.")] = "",
    url: UrlOption = "",
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    token: TokenOption = "",
    as_json: JsonOption = False,
) -> None:
    """List the databases of the cluster, or create an empty one."""
    with failures(as_json=as_json):
        if (action is Action.CREATE) != bool(name):
            raise InvalidRequest("say `pando databases list` or `pando databases create NAME`")
        target = find_target(url, directory, token)
        with Client(target.url, token=target.token) as client:
            if action is Action.CREATE:
                made = parse_database_name(name)
                client.post_json("/cluster/databases", body={"name": made})
                show({"created": made}, as_json=as_json, human=lambda out: out.print(f"created {made}"))
            else:
                names = list_databases(client)
                rows = [(found,) for found in names]
                show({"databases": names}, as_json=as_json, human=lambda out: out.print(table(("database",), rows)))
