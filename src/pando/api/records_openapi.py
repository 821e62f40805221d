"""`GET /api/openapi.json`: the routes of the records API as OpenAPI 3.0 has it, made from the table of routes.

Bodies of records have the fields of their collections, which differ from database to database: they are told as
objects. Not here: the routes, what they do (docs/http-records.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from pando.api.http import Response
from pando.api.records_app import Route
from pando.api.records_http import ApiRequest, raw_answer
from pando.records.desk import Asking, Desk

_Json = dict[str, Any]
ROUTE: Final = "GET openapi.json"
PATHS: Final[Mapping[str, tuple[str, ...]]] = {
    "collections": ("collection",),
    "records": ("record",),
    "impersonate": ("record",),
    "files": ("collection", "record", "name"),
}
"""What the variable steps of a path are, by the step before them."""
_LISTED: Final = ("page", "perPage", "sort", "filter", "skipTotal")
_SHOWN: Final = ("expand", "fields")
QUERIES: Final[Mapping[str, tuple[str, ...]]] = {
    "GET collections/*/records": (*_LISTED, *_SHOWN),
    "GET collections": (*_LISTED, "fields"),
    "GET files/*/*/*": ("thumb", "download", "token"),
    "POST collections/*/auth-with-password": ("mfaId", *_SHOWN),
    "POST collections/*/auth-refresh": _SHOWN,
    **dict.fromkeys(("POST collections/*/records",), _SHOWN),
    **dict.fromkeys(("GET collections/*/records/*", "PATCH collections/*/records/*"), _SHOWN),
}
_TEXT: Final[_Json] = {"type": "string"}
_OBJECT: Final[_Json] = {"type": "object"}
BODIES: Final[Mapping[str, _Json]] = {
    "POST collections/*/auth-with-password": {
        "type": "object",
        "properties": {"identity": _TEXT, "password": _TEXT, "identityField": _TEXT, "mfaId": _TEXT},
        "required": ["identity", "password"],
    },
    "POST collections/*/impersonate/*": {"type": "object", "properties": {"duration": {"type": "integer"}}},
    "POST batch": {
        "type": "object",
        "properties": {
            "requests": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "method": {"type": "string", "enum": ["POST", "PUT", "PATCH", "DELETE"]},
                        "url": _TEXT,
                        "headers": {"type": "object", "additionalProperties": _TEXT},
                        "body": _OBJECT,
                    },
                    "required": ["method", "url"],
                },
            }
        },
        "required": ["requests"],
    },
    "PUT collections/import": {
        "type": "object",
        "properties": {"collections": {"type": "array", "items": _OBJECT}, "deleteMissing": {"type": "boolean"}},
        "required": ["collections"],
    },
    "POST collections/meta/dry-run-view": {"type": "object", "properties": {"query": _TEXT}, "required": ["query"]},
    **dict.fromkeys(("POST collections/*/records", "PATCH collections/*/records/*"), _OBJECT),
    **dict.fromkeys(("POST collections", "PATCH collections/*", "PATCH settings"), _OBJECT),
}
_FORMS: Final = frozenset(("POST collections/*/records", "PATCH collections/*/records/*", "POST batch"))
_ERROR: Final[_Json] = {
    "type": "object",
    "properties": {"data": _OBJECT, "message": _TEXT, "status": {"type": "integer"}},
    "required": ["data", "message", "status"],
}
_REFUSED: Final[_Json] = {
    "description": "What is wrong, by field in `data`.",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
}


def describe(routes: Iterable[str]) -> _Json:
    """Describe routes, given as `METHOD path` with `*` for variable steps."""
    paths: dict[str, _Json] = {}
    for route in sorted(routes):
        method, _, pattern = route.partition(" ")
        path, names = _path(pattern)
        paths.setdefault(path, {})[method.lower()] = _operation(route, names)
    return {
        "openapi": "3.0.3",
        "info": {"title": "Pando records", "version": "1", "description": "PocketBase's API, on every node."},
        "paths": paths,
        "components": {
            "schemas": {"Error": _ERROR},
            "securitySchemes": {"token": {"type": "apiKey", "in": "header", "name": "Authorization"}},
        },
        "security": [{}, {"token": []}],
    }


def _path(pattern: str) -> tuple[str, list[str]]:
    """Give a path with its variable steps named, and their names."""
    steps, names = [], []
    left: tuple[str, ...] = ()
    for step in pattern.split("/"):
        if step == "*":
            name, *rest = left or ("id",)
            left = tuple(rest)
            names.append(name)
            steps.append(f"{{{name}}}")
        else:
            left = PATHS.get(step, ())
            steps.append(step)
    return "/api/" + "/".join(steps), names


def _operation(route: str, names: list[str]) -> _Json:
    parameters = [{"name": name, "in": "path", "required": True, "schema": _TEXT} for name in names]
    parameters += [{"name": name, "in": "query", "schema": _TEXT} for name in QUERIES.get(route, ())]
    content = {"description": "Done."}
    operation: _Json = {
        "operationId": route.replace(" ", "_").replace("/", "_").replace("*", "one").replace(".", "_"),
        "parameters": parameters,
        "responses": {"200": content, "204": content, "4XX": _REFUSED},
    }
    body = BODIES.get(route)
    if body is not None:
        kinds = ["application/json", *(["multipart/form-data"] if route in _FORMS else [])]
        operation["requestBody"] = {"content": {kind: {"schema": body} for kind in kinds}}
    return operation


def openapi_routes(routes: Iterable[str]) -> Mapping[str, Route]:
    """Give the route that describes these and itself."""
    text = msgspec.json.encode(describe([*routes, ROUTE]))

    async def tell(_desk: Desk, _asking: Asking, _asked: ApiRequest) -> Response:
        return raw_answer(text)

    return {ROUTE: tell}
