"""All routes of the records API in one table, and which of them need the primary. Not here: what they do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pando.api.records_app import Route
from pando.api.records_batch import BATCH_ROUTES
from pando.api.records_collections import COLLECTION_ROUTES
from pando.api.records_files import FILE_ROUTES
from pando.api.records_openapi import openapi_routes
from pando.api.records_routes import RECORD_ROUTES, WRITES

_DESCRIBED: Final[Mapping[str, Route]] = {**RECORD_ROUTES, **COLLECTION_ROUTES, **BATCH_ROUTES, **FILE_ROUTES}
ROUTES: Final[Mapping[str, Route]] = {**_DESCRIBED, **openapi_routes(_DESCRIBED)}
"""By method and path below `/api/`, `*` for one segment."""

__all__ = ["ROUTES", "WRITES"]
