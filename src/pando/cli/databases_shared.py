"""What the commands of `pando databases` share. Not here: the commands."""

from __future__ import annotations

from pathlib import Path

import typer


def inherited(context: typer.Context, url: str, directory: Path, token: str) -> tuple[str, Path, str]:
    """Give address, directory and token: as said behind the command, else as said before it, else as usual."""
    before = context.obj if isinstance(context.obj, tuple) else (url, directory, token)
    return (
        url if _is_said(context, "url") else before[0],
        directory if _is_said(context, "directory") else before[1],
        token if _is_said(context, "token") else before[2],
    )


def _is_said(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def database_path(name: str, action: str = "") -> str:
    """Give the path of a database in the admin API."""
    return f"/v1/namespaces/{name}/{action}" if action else f"/v1/namespaces/{name}"
