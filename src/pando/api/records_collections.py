"""The routes of collections: for superusers only.

Not here: what a definition may be (`pando.records.collections`), changing it (`pando.records.defining`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from pando.api.http import Response
from pando.api.records_app import Route
from pando.api.records_http import NO_CONTENT, ApiRequest
from pando.api.records_routes import only_superusers, raw, shaped
from pando.records import defining
from pando.records.auth.provider_names import PROVIDER_NAMES
from pando.records.collections import defaults, wire
from pando.records.desk import Asking, Desk
from pando.records.listing_collections import list_collections
from pando.records.model import Collection


async def list_(desk: Desk, asking: Asking, asked: ApiRequest) -> Response:
    """GET collections."""
    only_superusers(asking)
    found = await list_collections(desk, asking, asked.query)
    value = {
        "items": [wire.value_of(each) for each in found.items],
        "page": found.page.number,
        "perPage": found.page.size,
        "totalItems": found.total,
        "totalPages": found.pages,
    }
    return raw(msgspec.json.encode(value), asked.query)


async def view(_desk: Desk, asking: Asking, asked: ApiRequest) -> Response:
    """GET collections/*."""
    only_superusers(asking)
    return _shown(asking.collection(asked.segments[1]), asked)


async def create(desk: Desk, asking: Asking, asked: ApiRequest) -> Response:
    """POST collections."""
    only_superusers(asking)
    return _shown(await defining.create_collection(desk, asking, await asked.json()), asked)


async def update(desk: Desk, asking: Asking, asked: ApiRequest) -> Response:
    """PATCH collections/*."""
    only_superusers(asking)
    asking.collection(asked.segments[1])  # that it is not there is told before what is wrong with the body
    return _shown(await defining.update_collection(desk, asking, asked.segments[1], await asked.json()), asked)


async def delete(desk: Desk, asking: Asking, asked: ApiRequest) -> Response:
    """DELETE collections/*."""
    only_superusers(asking)
    deleted = await defining.delete_collection(desk, asking, asked.segments[1])
    await desk.files.clear_collection(asking.known.settings.s3, deleted.id)
    return NO_CONTENT


async def truncate(desk: Desk, asking: Asking, asked: ApiRequest) -> Response:
    """DELETE collections/*/truncate."""
    only_superusers(asking)
    async with desk.files.filing(asking.known.settings.s3) as filing:
        await defining.truncate_collection(desk, asking, asked.segments[1], filing)
    return NO_CONTENT


async def scaffolds(desk: Desk, asking: Asking, asked: ApiRequest) -> Response:
    """GET collections/meta/scaffolds."""
    only_superusers(asking)
    found = {kind: wire.value_of(each) for kind, each in defaults.scaffolds(desk.random).items()}
    return raw(msgspec.json.encode(found), asked.query)


async def providers(_desk: Desk, asking: Asking, asked: ApiRequest) -> Response:
    """GET collections/meta/oauth2-providers."""
    only_superusers(asking)
    found = [{"name": name, "displayName": shown, "logo": ""} for name, shown in PROVIDER_NAMES.items()]
    return raw(msgspec.json.encode(found), asked.query)


async def import_(desk: Desk, asking: Asking, asked: ApiRequest) -> Response:
    """PUT collections/import."""
    only_superusers(asking)
    await defining.import_collections(desk, asking, await asked.json())
    left = {each.id for each in (await desk.known()).schema.collections}
    for collection in asking.schema.collections:
        if collection.id not in left:
            await desk.files.clear_collection(asking.known.settings.s3, collection.id)
    return NO_CONTENT


async def dry_run(desk: Desk, asking: Asking, asked: ApiRequest) -> Response:
    """POST collections/meta/dry-run-view."""
    only_superusers(asking)
    return shaped(await defining.dry_run_view(desk, await asked.json()), asked.query)


def _shown(collection: Collection, asked: ApiRequest) -> Response:
    return raw(wire.encode(collection), asked.query)


COLLECTION_ROUTES: Final[Mapping[str, Route]] = {
    "GET collections": list_,
    "POST collections": create,
    "GET collections/*": view,
    "PATCH collections/*": update,
    "DELETE collections/*": delete,
    "DELETE collections/*/truncate": truncate,
    "PUT collections/import": import_,
    "GET collections/meta/scaffolds": scaffolds,
    "GET collections/meta/oauth2-providers": providers,
    "POST collections/meta/dry-run-view": dry_run,
}
