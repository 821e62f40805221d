"""`pando serve`: one node. Its options are the settings that have a flag, straight from the settings table.

Not here: what the settings mean (see `pando.settings`), the node itself (see `pando.node.supervisor`).
"""

from __future__ import annotations

import inspect
import os
from dataclasses import Field
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from pando.cli.options import JsonOption
from pando.cli.output import failures
from pando.cli.places import require_node_place, tell_foreign_data
from pando.log import EventLog
from pando.setting_kinds import BOOL
from pando.settings import Row, environment_names, load_settings, rows

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="Settings file (TOML); DIR/pando.toml when there is one.")
]


def serve(config: ConfigOption = None, as_json: JsonOption = False, **flags: object) -> None:
    """Run one node until it is told to stop; with --primary it is a replica.

    Options are settings, which may also stand in the environment or in DIR/pando.toml. All are in docs/settings.md.
    """
    if as_json:
        flags["log_format"] = "json"
    with failures(as_json=as_json):
        settings = load_settings(flags=flags, environ=os.environ, config=config)
        require_node_place(settings.dir)
        tell_foreign_data(settings.dir, EventLog("serve", level=settings.log_level, form=settings.log_format))
        from pando.node.supervisor import run

        status = run(settings)
    if status:
        raise typer.Exit(status)


def _option(name: str, item: Field[Any], row: Row) -> Any:  # noqa: ANN401 - an annotation
    default = row.default_text or row.kind.show(item.default)
    text = f"{row.help} [default: {default.replace('`', '')}; {environment_names(name, row)[0]}]"
    if row.kind is BOOL:
        return Annotated[bool | None, typer.Option(f"{row.flag}/--no-{row.flag[2:]}", help=text)]
    metavar = row.kind.allowed.replace(", ", "|") if row.kind.name == "choice" else row.kind.name.upper()
    return Annotated[str | None, typer.Option(row.flag, help=text, metavar=metavar)]


def _with_flags() -> None:
    """Give `serve` a parameter for each setting that has a flag; typer makes its options from the signature."""
    hints = get_type_hints(serve, include_extras=True)
    declared = inspect.signature(serve).parameters.values()
    kept = [item.replace(annotation=hints[item.name]) for item in declared if item.kind is not item.VAR_KEYWORD]
    made = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_option(name, item, row))
        for name, (item, row) in rows().items()
        if row.flag
    ]
    serve.__signature__ = inspect.Signature([*kept, *made])  # type: ignore[attr-defined]
    serve.__annotations__ |= {item.name: item.annotation for item in made}


_with_flags()
