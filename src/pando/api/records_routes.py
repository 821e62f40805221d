"""The routes of the records API: what each takes from a request and gives back.

Not here: what they do (`pando.records`), how they are found (`pando.api.records_app`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import msgspec

from pando.api.client_ip import client_ip
from pando.api.http import Response
from pando.api.records_app import Route
from pando.api.records_bodies import limits_of, received
from pando.api.records_http import NO_CONTENT, ApiRequest, answer, raw_answer
from pando.records import signing_in
from pando.records.app_settings import shown
from pando.records.auth.methods import auth_methods, signed_in
from pando.records.deleting import delete_record
from pando.records.desk import Asking, Desk
from pando.records.listing import encode, enriched, list_records, view_record
from pando.records.problems import bad_request, forbidden, unauthorized
from pando.records.projection import parse_fields
from pando.records.saving import save_settings
from pando.records.second_factor import SecondFactorNeeded
from pando.records.settings_change import merged
from pando.records.signing_in import SignedIn, auth_of
from pando.records.writing import create_record, may_create, may_update, update_record

_PROXY_HEADERS: Final = ("CF-Connecting-IP", "Fly-Client-IP", "X-Forwarded-For")
"""Headers in which common proxies tell the client's address."""


def only_superusers(asking: Asking) -> None:
    """Raise ApiError 401 for guests, 403 for others. A program that uses Pando is a superuser without a record."""
    if asking.is_superuser:
        return
    if asking.auth is None:
        raise unauthorized()
    raise forbidden("The authorized record is not allowed to perform this action.")


def shaped(value: dict[str, Any], query: Mapping[str, str]) -> Response:
    """Answer with JSON, reduced to what `fields` names."""
    return raw(encode(value), query)


def raw(body: bytes, query: Mapping[str, str]) -> Response:
    """The same for JSON that is written already."""
    projection = parse_fields(query.get("fields", ""))
    return raw_answer(body if projection is None else projection.apply_to_text(body))


# -- records ------------------------------------------------------------------------------------------------------


async def list_(desk: Desk, asking: Asking, asked: ApiRequest) -> Response:
    """GET collections/*/records."""
    collection = asking.collection(asked.segments[1])
    return shaped(await list_records(desk, asking, collection, asked.query), asked.query)


async def view(desk: Desk, asking: Asking, asked: ApiRequest) -> Response:
    """GET collections/*/records/*."""
    collection = asking.collection(asked.segments[1])
    expand = asked.query.get("expand", "")
    return shaped(await view_record(desk, asking, collection, asked.segments[3], expand), asked.query)


async def create(desk: Desk, asking: Asking, asked: ApiRequest) -> Response:
    """POST collections/*/records."""
    collection = asking.collection(asked.segments[1])
    may_create(asking, collection)  # before a long body is taken
    async with (
        received(desk, asked, limits_of(collection)) as body,
        desk.files.filing(asking.known.settings.s3, body.uploads) as filing,
    ):
        record = await create_record(desk, asking, collection, body.of(collection), filing)
    return shaped((await enriched(desk, asking, collection, [record], asked.query.get("expand", "")))[0], asked.query)


async def update(desk: Desk, asking: Asking, asked: ApiRequest) -> Response:
    """PATCH collections/*/records/*."""
    collection = asking.collection(asked.segments[1])
    may_update(asking, collection)
    async with (
        received(desk, asked, limits_of(collection)) as body,
        desk.files.filing(asking.known.settings.s3, body.uploads) as filing,
    ):
        record = await update_record(desk, asking, collection, asked.segments[3], body.of(collection), filing)
    return shaped((await enriched(desk, asking, collection, [record], asked.query.get("expand", "")))[0], asked.query)


async def delete(desk: Desk, asking: Asking, asked: ApiRequest) -> Response:
    """DELETE collections/*/records/*."""
    async with desk.files.filing(asking.known.settings.s3) as filing:
        await delete_record(desk, asking, asking.collection(asked.segments[1]), asked.segments[3], filing)
    return NO_CONTENT


# -- sign-in ------------------------------------------------------------------------------------------------------


async def methods(_desk: Desk, asking: Asking, asked: ApiRequest) -> Response:
    """GET collections/*/auth-methods."""
    options = auth_of(asking.collection(asked.segments[1]))
    return raw(msgspec.json.encode(auth_methods(options)), asked.query)


async def with_password(desk: Desk, asking: Asking, asked: ApiRequest) -> Response:
    """POST collections/*/auth-with-password."""
    collection = asking.collection(asked.segments[1])
    try:
        done = await signing_in.with_password(desk, asking, collection, await asked.json())
    except SecondFactorNeeded as needed:
        return answer({"mfaId": needed.mfa_id}, 401)
    return await _signed_in(desk, asking, asked, done)


async def refresh(desk: Desk, asking: Asking, asked: ApiRequest) -> Response:
    """POST collections/*/auth-refresh."""
    collection = asking.collection(asked.segments[1])
    return await _signed_in(
        desk, asking, asked, await signing_in.refresh(desk, asking, collection, asked.authorization)
    )


async def impersonate(desk: Desk, asking: Asking, asked: ApiRequest) -> Response:
    """POST collections/*/impersonate/*."""
    only_superusers(asking)
    collection = asking.collection(asked.segments[1])
    duration = (await asked.json()).get("duration") or 0
    if not isinstance(duration, int) or isinstance(duration, bool):
        raise bad_request("The duration must be a whole number of seconds.")
    return await _signed_in(
        desk, asking, asked, await signing_in.impersonate(desk, asking, collection, asked.segments[3], duration)
    )


async def _signed_in(desk: Desk, asking: Asking, asked: ApiRequest, done: SignedIn) -> Response:
    """Answer with the record as it sees itself, and its token."""
    info = replace(asking.info, auth=done.record, is_superuser=done.viewer.is_superuser)
    own = replace(asking, info=info, viewer=done.viewer, auth=done.record)
    record = (await enriched(desk, own, done.record.collection, [done.record], asked.query.get("expand", "")))[0]
    return raw(signed_in(encode(record), done.token), asked.query)


async def file_token(_desk: Desk, asking: Asking, _asked: ApiRequest) -> Response:
    """POST files/token."""
    return answer({"token": signing_in.file_token(asking)})


# -- settings and health ------------------------------------------------------------------------------------------


async def health(_desk: Desk, asking: Asking, asked: ApiRequest) -> Response:
    """GET health."""
    proxy = asking.known.settings.trusted_proxy
    headers = (name for name in (*proxy.headers, *_PROXY_HEADERS) if asked.headers.get(name.lower().replace("-", "_")))
    data = {"canBackup": False, "realIP": client_ip(asked, proxy), "possibleProxyHeader": next(headers, "")}
    value = {"message": "API is healthy.", "code": 200, "data": data if asking.is_superuser else {}}
    return raw(msgspec.json.encode(value), asked.query)


async def settings(_desk: Desk, asking: Asking, asked: ApiRequest) -> Response:
    """GET settings."""
    only_superusers(asking)
    return raw(shown(asking.known.settings), asked.query)


async def change_settings(desk: Desk, asking: Asking, asked: ApiRequest) -> Response:
    """PATCH settings."""
    only_superusers(asking)
    made = merged(asking.known.settings, await asked.json())
    await save_settings(desk, asking, made)
    return raw(shown(made), asked.query)


RECORD_ROUTES: Final[Mapping[str, Route]] = {
    "GET health": health,
    "GET collections/*/records": list_,
    "POST collections/*/records": create,
    "GET collections/*/records/*": view,
    "PATCH collections/*/records/*": update,
    "DELETE collections/*/records/*": delete,
    "GET collections/*/auth-methods": methods,
    "POST collections/*/auth-with-password": with_password,
    "POST collections/*/auth-refresh": refresh,
    "POST collections/*/impersonate/*": impersonate,
    "POST files/token": file_token,
    "GET settings": settings,
    "PATCH settings": change_settings,
}
WRITES: Final = frozenset(
    {
        "POST collections/*/records",
        "PATCH collections/*/records/*",
        "DELETE collections/*/records/*",
        "PATCH settings",
        "POST batch",
        "POST collections",
        "PATCH collections/*",
        "DELETE collections/*",
        "DELETE collections/*/truncate",
        "PUT collections/import",
        "POST collections/meta/dry-run-view",
    }
)
"""What needs the primary."""
