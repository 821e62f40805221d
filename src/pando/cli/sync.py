"""`pando sync`: a replica with a sync interval fetches now what it lacks."""

from __future__ import annotations

from pando.cli.access import find_target
from pando.cli.client import Client
from pando.cli.options import DEFAULT_DIRECTORY, DirectoryOption, JsonOption, TokenOption, UrlArgument, UrlOption
from pando.cli.output import failures, show


def sync(
    address: UrlArgument = "",
    url: UrlOption = "",
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    token: TokenOption = "",
    as_json: JsonOption = False,
) -> None:
    """Make a replica fetch what it lacks now, and wait until it is up to date."""
    with failures(as_json=as_json):
        target = find_target(address or url, directory, token)
        with Client(target.url, token=target.token) as client:
            client.post_json("/cluster/sync")
    show({"synced": target.url}, as_json=as_json, human=lambda out: out.print(f"{target.url} is up to date"))
