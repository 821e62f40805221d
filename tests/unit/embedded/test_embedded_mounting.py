"""The application under paths of other applications, and its lifespan."""

import asyncio

import pytest

from pando.embedded.mounting import Mounted, inner
from pando.errors import NotReady


@pytest.mark.parametrize(
    ("root", "path", "raw", "expected"),
    [
        ("", "/api/health", b"/api/health", ("/api/health", b"/api/health")),
        ("/pb", "/pb/api/health", b"/pb/api/health", ("/api/health", b"/api/health")),
        ("/pb/", "/pb/api/health", b"/pb/api/health", ("/api/health", b"/api/health")),
        ("/pb", "/pb", b"/pb", ("/", b"/")),
        ("/pb", "/pb/", b"/pb/", ("/", b"/")),
        ("/p b", "/p b/api/x/y z", b"/p%20b/api/x/y%20z", ("/api/x/y z", b"/api/x/y%20z")),
        ("/p b", "/p b/api/x/y z", None, ("/api/x/y z", b"/api/x/y%20z")),
        ("/pb", "/api/health", b"/api/health", ("/api/health", b"/api/health")),
        ("/pb", "/pbx/api", b"/pbx/api", ("/pbx/api", b"/pbx/api")),
        ("/pb", "/pb/api/a%b", b"/pb/api/a%25b", ("/api/a%b", b"/api/a%25b")),
        ("/pb", "/pb/api/a%2Fb", None, ("/api/a%2Fb", b"/api/a%252Fb")),
    ],
)
def test_a_path_is_seen_without_what_it_is_mounted_under(root, path, raw, expected):
    scope = {"type": "http", "root_path": root, "path": path, "headers": [[b"a", b"b"]]}
    if raw is not None:
        scope["raw_path"] = raw
    found = inner(scope)
    assert (found["path"], found["raw_path"]) == expected
    assert found["headers"] == [(b"a", b"b")] and found["query_string"] == b"" and found["root_path"] == ""


class FakePando:
    """Starts and stops, or says why not."""

    def __init__(self, error=None):
        self.error = error
        self.calls = []

    async def __aenter__(self):
        if self.error:
            raise self.error
        self.calls.append("start")

    async def __aexit__(self, *_):
        self.calls.append("stop")

    async def running(self):
        raise self.error


def converse(app, scope, *messages):
    """What the application sends when it gets these messages."""
    sent, waiting = [], list(messages)

    async def receive():
        return waiting.pop(0)

    async def send(message):
        sent.append(message)

    asyncio.run(Mounted(app)(scope, receive, send))
    assert not waiting
    return sent


def test_a_lifespan_starts_and_stops():
    app = FakePando()
    messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent = converse(app, {"type": "lifespan"}, *messages)
    assert [each["type"] for each in sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert app.calls == ["start", "stop"]


def test_a_start_that_fails_is_told_to_the_server():
    sent = converse(FakePando(NotReady("the disk is away")), {"type": "lifespan"}, {"type": "lifespan.startup"})
    assert sent == [{"type": "lifespan.startup.failed", "message": "NOT_READY: the disk is away"}]


def test_a_request_hears_why_the_node_does_not_run():
    scope = {"type": "http", "path": "/api/health", "headers": []}
    sent = converse(FakePando(NotReady("the disk is away")), scope)
    assert sent[0]["status"] == 503 and b"the disk is away" in sent[1]["body"]
