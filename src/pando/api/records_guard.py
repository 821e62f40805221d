"""The door of the records API: what a request is for, in the words of the settings, before its route is run.

Not here: what the settings mean (`pando.records.guarding`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from pando.api.http import Message, Request
from pando.api.records_http import BODY_BYTES_MAX, ApiRequest
from pando.records.desk import Asking, Desk
from pando.records.files.proofs import HEADER as FILE_HEADER
from pando.records.guarding.rates import Aim
from pando.records.model import Collection

WITH_PASSWORD: Final = "POST collections/*/auth-with-password"
STREAM_ROUTE: Final = "POST realtime"
"""Goes on to the process of its stream; it is counted where it came in."""
_FILE: Final = "GET files/*/*/*"
ACTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "GET collections/*/records": ("list",),
    "GET collections/*/records/*": ("view",),
    "POST collections/*/records": ("create",),
    "PATCH collections/*/records/*": ("update",),
    "DELETE collections/*/records/*": ("delete",),
    "GET collections/*/auth-methods": ("listAuthMethods",),
    "POST collections/*/auth-refresh": ("authRefresh",),
    WITH_PASSWORD: ("authWithPassword", "auth"),
    _FILE: ("file",),
}
"""What rate limits call the routes of a collection; the name of the collection is the second segment."""


def admit(desk: Desk, asking: Asking, asked: ApiRequest, pattern: str, *, is_counted: bool) -> bool:
    """Refuse who may not ask from there, or asks too often. Tells whether a rate limit holds. Raises ApiError."""
    settings = asking.known.settings
    if asking.is_superuser:
        if settings.superuser_ips:
            asking.notes.is_volatile = True  # the same request from elsewhere has another answer
            desk.guard.check_superuser(settings, asking.address)
        return False
    if not settings.rate_limits.enabled or (pattern == _FILE and _is_of_node(desk, asking, asked)):
        return False
    return _limit(desk, asking, _aim_of(asking, asked, pattern), is_counted=is_counted)


def admit_item(desk: Desk, asking: Asking, asked: ApiRequest, collection: Collection, action: str) -> None:
    """The same for one request of a batch. Raises ApiError 429."""
    if asking.is_superuser or not asking.known.settings.rate_limits.enabled:
        return
    aim = Aim(
        method=asked.method,
        path=_path_of(asked),
        route="POST batch",
        collection_id=collection.id,
        collection=collection.name,
        actions=(action,),
    )
    _limit(desk, asking, aim, is_counted=True, only_actions=True)


def _limit(desk: Desk, asking: Asking, aim: Aim, *, is_counted: bool, only_actions: bool = False) -> bool:
    settings, address = asking.known.settings, asking.address
    rule = desk.guard.rule_for(settings, aim, address, is_signed_in=asking.auth is not None)
    if rule is None or (only_actions and "/" in rule.label):
        return False
    asking.notes.is_volatile = True
    if is_counted:
        desk.guard.count(asking.known.settings_mark, rule, aim, address, asking.now_ms)
    return True


def _aim_of(asking: Asking, asked: ApiRequest, pattern: str) -> Aim:
    actions = ACTIONS.get(pattern, ())
    path = _path_of(asked)
    if not actions:
        return Aim(method=asked.method, path=path, route=pattern)
    collection = asking.collection(asked.segments[1])  # an unknown one is told before anything is counted
    return Aim(
        method=asked.method,
        path=path,
        named_path="/".join(("/api", asked.segments[0], collection.name, *asked.segments[2:])),
        route=pattern,
        collection_id=collection.id,
        collection=collection.name,
        actions=actions,
    )


def _path_of(asked: ApiRequest) -> str:
    return "/api/" + "/".join(asked.segments)


def _is_of_node(desk: Desk, asking: Asking, asked: ApiRequest) -> bool:
    """Tell whether a node asks for a file, for a client that was counted there."""
    text = asked.headers.get(FILE_HEADER.replace("-", "_"), "")
    if not text or desk.files.proofs is None:
        return False
    return desk.files.proofs.holds(text, asked.request.scope["raw_path"].decode("latin-1"), asking.now_ms // 1000)


async def with_body(asked: ApiRequest) -> ApiRequest:
    """Take the body of a request, so that it can be read twice. Raises RequestTooLarge, ClientGone."""
    body = await asked.request.body(BODY_BYTES_MAX)

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return replace(asked, request=Request(asked.request.scope, receive))
