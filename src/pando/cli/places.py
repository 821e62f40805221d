"""Whether a directory is one that a node, or `pando up`, may begin to work in: what else may lie there is said before.

A node makes a database where there is none, so a wrong directory would look like lost data. Not here: databases that
are damaged (see `pando.store`).
"""

from __future__ import annotations

from pathlib import Path

from pando.cli.access import UP_LOCK_FILE
from pando.errors import InvalidSetting
from pando.log import EventLog
from pando.types import DEFAULT_DATABASE

_MAGIC = b"SQLite format 3\x00"
_NODE_FILES = (Path(f"{DEFAULT_DATABASE}.db"), Path(".pando", "node.json"))
_SQLD_DATABASES = Path("dbs")
_SQLD_FILE = "data"


def require_node_place(directory: Path) -> None:
    """Raise InvalidSetting where no node can be: in the directory of a `pando up`, or where `data.db` is none."""
    if (directory / UP_LOCK_FILE).exists():
        raise InvalidSetting(
            f"{directory} belongs to `pando up`, whose nodes are in {directory / 'node1'} and so on; "
            "give another directory with --dir"
        )
    if directory.exists() and not directory.is_dir():
        raise InvalidSetting(f"{directory} is no directory; --dir names the one that holds {_NODE_FILES[0]}")
    file = directory / _NODE_FILES[0]
    try:
        with file.open("rb") as opened:
            start = opened.read(len(_MAGIC))
    except FileNotFoundError:
        return
    except OSError as error:
        raise InvalidSetting(f"{file} cannot be read: {error.strerror or error}") from error
    if start not in (b"", _MAGIC):
        raise InvalidSetting(
            f"{file} is no SQLite database, or it is encrypted: move it away, or give another directory with --dir"
        )


def require_cluster_place(directory: Path) -> None:
    """Raise InvalidSetting where there is one node: `pando up` would not use its data."""
    if any((directory / name).exists() for name in _NODE_FILES):
        raise InvalidSetting(
            f"{directory} is the directory of one node, for `pando serve`; give `pando up` another one with --dir "
            "(`pando import` brings data there)"
        )


def tell_foreign_data(directory: Path, log: EventLog) -> None:
    """Say what lies there that is not read: databases of sqld."""
    if (directory / _NODE_FILES[0]).exists():
        return
    for file in sorted((directory / _SQLD_DATABASES).glob(f"*/{_SQLD_FILE}")):
        name = file.parent.name
        advice = f"a database of sqld is not read where it is: `pando import {file} --name {name}` takes it over"
        log.emit("node.foreign_data", path=str(file), advice=advice)
