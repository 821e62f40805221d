"""GET /version: which code answers, in the form that sqld has: name, version, eight digits and a date.

The digits are of a hash over the package's modules, so nodes that show the same ones run the same code; the date is of
the newest module. Not here: what a version means (`pando.__version__`).
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pando
from pando.api.http import Request, Response


@cache
def version_line() -> str:
    """Give the line; reads the package once."""
    digest, newest = hashlib.sha256(), 0.0
    folder = Path(pando.__file__).parent
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
        newest = max(newest, path.stat().st_mtime)
    day = datetime.fromtimestamp(newest, tz=UTC).date().isoformat()
    return f"pando {pando.__version__} ({digest.hexdigest()[:8]} {day})"


async def version(_request: Request) -> Response:
    """Answer GET /version."""
    return Response(200, [(b"content-type", b"text/plain")], version_line().encode())
