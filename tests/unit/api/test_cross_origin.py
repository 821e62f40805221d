import asyncio

import pytest
from asgi_client import call

from pando.api.app import App
from pando.api.http import json_response
from pando.api.version import version_line
from pando.errors import Forbidden
from pando.log import EventLog

ORIGIN = (b"origin", b"https://page.example")


async def hello(_request):
    return json_response({"hello": 1})


async def forbidden(_request):
    raise Forbidden("no")


def get(path, method="GET", headers=()):
    lines = []
    routes = {"/hello": {"GET": hello}, "/forbidden": {"GET": forbidden}}
    app = App(routes, EventLog("web-0", write=lines.append), lambda: "starting")
    return asyncio.run(call(app, method, path, headers=headers))


@pytest.mark.parametrize(
    ("path", "status"), [("/hello", 200), ("/forbidden", 403), ("/nothing", 503), ("/v2/pipeline", 503), ("/v1", 503)]
)
def test_every_answer_may_be_read_by_any_page(path, status):
    got = get(path, headers=[ORIGIN])
    assert (got.status, got.headers[b"access-control-allow-origin"]) == (status, b"*")
    assert b"pando-bookmark" in got.headers[b"access-control-expose-headers"]


def test_who_is_no_page_gets_no_such_headers():
    assert not [name for name in get("/hello").headers if name.startswith(b"access-control")]


def test_a_browser_that_asks_first_is_told_yes_before_the_node_is_ready():
    asked = [
        ORIGIN,
        (b"access-control-request-method", b"POST"),
        (b"access-control-request-headers", b"authorization,content-type"),
    ]
    got = get("/v2/pipeline", "OPTIONS", asked)
    assert (got.status, got.body) == (200, b"")
    assert b"POST" in got.headers[b"access-control-allow-methods"]
    assert got.headers[b"access-control-allow-headers"] == b"authorization,content-type"
    assert got.headers[b"access-control-allow-origin"] == b"*"


@pytest.mark.parametrize("size", [0, 5000])
def test_options_that_asks_nothing_or_too_much_is_no_such_question(size):
    asked = [ORIGIN, (b"access-control-request-headers", b"x" * size)]
    if size:
        asked.append((b"access-control-request-method", b"POST"))
    assert get("/hello", "OPTIONS", asked).status == 405


def test_the_version_is_told_at_any_time():
    got = get("/version")
    assert (got.status, got.body) == (200, version_line().encode())
