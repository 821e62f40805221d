import asyncio
import json

import pytest
from asgi_client import call

from pando.api.app import App
from pando.api.http import Response, json_response, send_response
from pando.errors import Forbidden, StorageFull
from pando.log import EventLog


class Tried:
    def __init__(self):
        self.lines = []
        self.seen = []
        routes = {
            "/hello": {"GET": self.hello, "POST": self.echo},
            "/forbidden": {"GET": self.forbidden},
            "/bug": {"GET": self.bug},
            "/stream": {"GET": self.stream},
        }
        log = EventLog("web-0", form="json", write=self.lines.append)
        self.app = App(routes, log, lambda: "the store is starting", begin_wait_s=0.01)
        self.app.by_first = {"late": self.hello}

    async def hello(self, request):
        return json_response({"query": request.query()})

    async def echo(self, request):
        return json_response({"size": len(await request.body(size_max=100))}, 201)

    async def forbidden(self, request):
        raise Forbidden("no")

    async def bug(self, request):
        raise ZeroDivisionError("secret detail")

    async def stream(self, request):
        async def chunks():
            yield b"abc"
            raise StorageFull("gone")

        return Response(200, [(b"content-length", b"6")], stream=chunks())

    def get(self, path, method="GET", **options):
        return asyncio.run(call(self.app, method, path, **options))


def test_a_path_and_method_find_their_handler():
    assert Tried().get("/hello?a=1&b=%C3%A4").json() == {"query": {"a": "1", "b": "ä"}}
    got = Tried().get("/hello", "POST", body=b"x" * 50, chunk=7)
    assert (got.status, got.json()) == (201, {"size": 50})


def test_head_is_get_without_a_body():
    got = Tried().get("/hello", "HEAD")
    assert (got.status, got.body) == (200, b"")
    assert got.headers[b"content-length"] == b"12"


def test_unknown_paths_and_methods_are_json_errors():
    got = Tried().get("/nothing")
    assert (got.status, got.json()["code"]) == (404, "NOT_FOUND")
    got = Tried().get("/hello", "DELETE")
    assert (got.status, got.headers[b"allow"]) == (405, b"GET, POST")


def test_what_is_not_known_before_the_store_has_said_who_the_node_is():
    tried = Tried()
    assert tried.get("/late/more").status == 200
    tried.app.by_first = None
    got = tried.get("/late/more")
    assert (got.status, got.json()["code"]) == (503, "NOT_READY"), "404 would send a client away for ever"


def test_errors_say_code_and_whether_to_retry():
    got = Tried().get("/forbidden")
    assert (got.status, got.json()) == (403, {"error": "no", "message": "no", "code": "FORBIDDEN", "retryable": False})


def test_a_bug_is_logged_whole_and_answered_without_detail():
    tried = Tried()
    got = tried.get("/bug")
    assert (got.status, got.json()["code"]) == (500, "INTERNAL")
    assert b"secret" not in got.body
    assert "secret detail" in json.loads(tried.lines[0])["error"]


def test_a_body_over_the_limit_and_a_bad_query_are_refused():
    assert Tried().get("/hello", "POST", body=b"x" * 101, chunk=10).status == 413
    assert Tried().get("/hello?" + "a" * 5000).status == 400
    assert Tried().get("/hello?a=%FF").status == 400


def test_an_answer_that_fails_midway_is_cut_off():
    with pytest.raises(StorageFull):  # so the server learns that the answer is not whole
        Tried().get("/stream")


def test_sql_waits_for_the_store():
    tried = Tried()
    got = tried.get("/v2/pipeline", "POST")
    assert (got.status, got.json()["code"]) == (503, "NOT_READY")
    assert "the store is starting" in got.json()["error"]

    async def sql(scope, receive, send):
        tried.seen.append(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"sql"})

    tried.app.sql = sql
    for path in ("/v2/pipeline", "/v3", "/dev/x/v2/pipeline"):
        assert tried.get(path, "POST").body == b"sql"
    assert tried.seen == ["/v2/pipeline", "/v3", "/dev/x/v2/pipeline"]


def test_a_node_that_is_nearly_ready_says_why_it_does_not_serve():
    tried = Tried()
    tried.app = App({}, EventLog("web-0", write=tried.lines.append), lambda: "", begin_wait_s=0.01)
    got = tried.get("/v2/pipeline", "POST")
    assert (got.status, got.json()["error"]) == (503, "the node cannot serve yet: starting")


def test_a_client_that_goes_away_within_its_body_is_no_error():
    async def scenario():
        tried = Tried()
        sent = []

        async def receive():
            return {"type": "http.disconnect"}

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/hello", "query_string": b"", "headers": []}
        await tried.app(scope, receive, send)
        assert sent == []
        assert tried.lines == []

    asyncio.run(scenario())


def test_a_request_for_records_that_comes_too_early_waits_a_while():
    async def scenario():
        tried = Tried()
        late = await call(tried.app, "GET", "/api/health")
        assert (late.status, late.json()["code"]) == (503, "NOT_READY")
        app = App({}, EventLog("web-0", write=tried.lines.append), lambda: "the store is starting")
        waiting = asyncio.create_task(call(app, "GET", "/api/health"))
        await asyncio.sleep(0)
        assert not waiting.done()
        app.records = lambda _scope, _receive, send: send_response(json_response({"begun": True}), send)
        assert (await waiting).json() == {"begun": True}

    asyncio.run(scenario())


def test_sql_that_comes_before_its_process_can_answer_waits_a_while():
    """Another process of the node may have said that the node is ready."""

    async def answer(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"sql"})

    async def scenario():
        app = App({}, EventLog("web-0", write=lambda line: None), lambda: "the store is starting")
        waiting = asyncio.create_task(call(app, "POST", "/v2/pipeline"))
        await asyncio.sleep(0)
        assert not waiting.done()
        app.sql = answer
        app.records = answer
        assert (await waiting).body == b"sql"

    asyncio.run(scenario())
