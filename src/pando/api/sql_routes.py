"""Which handlers answer the routes of libSQL's and Turso's clients besides pipelines and WebSockets.

By the first name in the path (`pando.api.app.first_of`). Each handler looks at the rest of the path and the method
itself, and raises PandoError for what it refuses. Not here: what they do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pando.api.http import Handler
from pando.api.oldest_api import OldestApi

if TYPE_CHECKING:
    from pando.api.site import OpenSite


def sql_routes(site: OpenSite) -> Mapping[str, Handler]:
    """Give the handlers of one process."""
    return {**site.tenants.routes(), **site.embedded.routes(), **site.pulls.routes(), **OldestApi(site.sql).routes()}
