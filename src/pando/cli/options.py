"""Options that several commands share, as types."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_DIRECTORY = Path("./pando_data")
"""Where `pando up` keeps its nodes unless told otherwise."""
DEFAULT_URL = "http://127.0.0.1:8090"
"""Where the commands look for a server that nothing tells the address of."""

JsonOption = Annotated[bool, typer.Option("--json", help="Write JSON to standard output.")]
DirectoryOption = Annotated[
    Path,
    typer.Option(
        "--dir", envvar="PANDO_DIR", help="Directory of a node or of `pando up`: gives the address and the token."
    ),
]
UrlOption = Annotated[str, typer.Option("--url", envvar="PANDO_URL", help="Address of any node.")]
UrlArgument = Annotated[str, typer.Argument(metavar="[URL]", help="Address of any node; the same as --url.")]
TokenOption = Annotated[
    str, typer.Option("--token", envvar="PANDO_TOKEN", help="Token; without it one is made from the secret in --dir.")
]
DatabaseOption = Annotated[str, typer.Option("--database", "-d", help="Database; the default one when not given.")]
