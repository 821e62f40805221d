"""Pando: an application backend that grows from one process on one SQLite file into a cluster.

From Python: `app = Pando("dir")`, see docs/python.md; `connect(url)` for SQL, see docs/python-sql.md. What is named
here is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pando.client import aconnect as aconnect
    from pando.client import connect as connect
    from pando.embedded.application import Caller as Caller
    from pando.embedded.application import Pando as Pando
    from pando.embedded.hearing import Event as Event
    from pando.embedded.records import Page as Page
    from pando.embedded.records import Record as Record
    from pando.embedded.records import Rows as Rows
    from pando.embedded.records import SignedIn as SignedIn
    from pando.errors import PandoError as PandoError
    from pando.errors import SqlError as SqlError
    from pando.records.problems import ApiError as ApiError
    from pando.records.problems import ValidationFailed as ValidationFailed

__version__ = "0.1.0"
_HOMES = {
    "aconnect": "pando.client",
    "connect": "pando.client",
    "Caller": "pando.embedded.application",
    "Pando": "pando.embedded.application",
    "Event": "pando.embedded.hearing",
    "Page": "pando.embedded.records",
    "Record": "pando.embedded.records",
    "Rows": "pando.embedded.records",
    "SignedIn": "pando.embedded.records",
    "PandoError": "pando.errors",
    "SqlError": "pando.errors",
    "ApiError": "pando.records.problems",
    "ValidationFailed": "pando.records.problems",
}


def __getattr__(name: str) -> object:
    """Import what is asked for."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'pando' has no attribute {name!r}")
    found = globals()[name] = getattr(importlib.import_module(home), name)
    return found


def __dir__() -> list[str]:
    """Name everything."""
    return sorted({*globals(), *_HOMES})
