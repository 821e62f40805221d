"""`Pando` in this process: collections, errors, users, SQL and the ASGI application, on a real node."""

import asyncio
import contextlib
import json
import urllib.error
import urllib.request

import pytest
from cluster_kit import free_base_port, wait_until

import pando
from pando import ApiError, Pando, SqlError
from pando.embedded.application import Caller
from pando.node.tokens import make_token

pytestmark = pytest.mark.slow

FIELDS = [
    {"name": "title", "type": "text", "required": True},
    {"name": "views", "type": "number"},
    {"name": "files", "type": "file", "maxSelect": 5},
]
OPEN = {"listRule": "views < 100", "viewRule": "", "createRule": "@request.auth.id != ''"}


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """An application with a node that listens, and what runs coroutines in one loop."""
    port = free_base_port(1)
    app = Pando(tmp_path_factory.mktemp("embedded") / "data", http=f"127.0.0.1:{port}", web=1)
    with asyncio.Runner() as runner:
        runner.run(app.start())
        runner.run(app.send("POST", "/api/collections", body={"name": "posts", "fields": FIELDS, **OPEN}))
        made = Node(app, runner, f"http://127.0.0.1:{port}")
        wait_until(made.listens, 20, "the node's web process does not listen")  # this program needs it not to be ready
        yield made
        runner.run(app.stop())


class Node:
    def __init__(self, app, runner, url):
        self.app, self.run, self.url = app, runner.run, url
        self.posts = app.collection("posts")

    def listens(self):
        with contextlib.suppress(urllib.error.URLError):
            return self.over_http("/api/health")["code"] == 200
        return False

    def over_http(self, path):
        with urllib.request.urlopen(self.url + path, timeout=20) as answer:
            return json.loads(answer.read())


def test_records_from_code_and_over_http_are_the_same(node):
    made = node.run(node.posts.create({"title": "one", "views": 1}))
    assert made.title == "one" and isinstance(made, pando.Record)
    assert node.over_http(f"/api/collections/posts/records/{made.id}") == made == node.run(node.posts.view(made.id))
    changed = node.run(node.posts.update(made.id, {"views+": 2}))
    assert changed.views == 3
    node.run(node.posts.delete(made.id))
    with pytest.raises(urllib.error.HTTPError, match="404"):
        node.over_http(f"/api/collections/posts/records/{made.id}")
    with pytest.raises(ApiError) as refused:
        node.run(node.posts.view(made.id))
    assert refused.value.status == 404


def test_lists(node):
    for number in range(5):
        node.run(node.posts.create({"title": f"list {number}", "views": number}))
    mine = "title ~ 'list '"
    page = node.run(node.posts.list(1, 2, filter=mine, sort="-views", fields="title"))
    assert list(page) == [{"title": "list 4"}, {"title": "list 3"}]
    assert (page.page, page.per_page, page.total_items, page.total_pages) == (1, 2, 5, 3)
    assert node.run(node.posts.list(filter=mine, skip_total=True)).total_items == -1
    assert [each.views for each in node.run(node.posts.full_list(filter=mine, sort="views", batch=2))] == [*range(5)]
    assert node.run(node.posts.first(f"{mine} && views > 2", sort="views")).views == 3
    with pytest.raises(ApiError) as refused:
        node.run(node.posts.first("title = 'nobody'"))
    assert refused.value.status == 404
    with pytest.raises(ApiError) as refused:
        node.run(node.posts.list(filter="nothing = 1"))
    assert refused.value.status == 400


def test_what_is_wrong_is_told_by_field(node):
    with pytest.raises(ApiError) as refused:
        node.run(node.posts.create({"title": "", "views": "many"}))
    assert refused.value.status == 400
    assert refused.value.data["title"].code == "validation_required"


def test_files(node, tmp_path):
    path = tmp_path / "b.txt"
    path.write_bytes(b"from a path")
    made = node.run(node.posts.create({"title": "files"}, files={"files": [("a.txt", b"from memory"), path]}))
    contents = set()
    for name in made.files:
        with urllib.request.urlopen(f"{node.url}/api/files/posts/{made.id}/{name}", timeout=20) as answer:
            contents.add(answer.read())
    assert contents == {b"from memory", b"from a path"}
    changed = node.run(node.posts.update(made.id, {"files-": made.files[0]}, files={"files+": ("c.txt", b"more")}))
    assert len(changed.files) == 2 and made.files[0] not in changed.files


def test_rules_apply_to_users_and_guests_only(node):
    node.run(node.posts.create({"title": "popular", "views": 500}))
    user = {"email": "ann@example.com", "password": "correct horse", "passwordConfirm": "correct horse"}
    ann = node.run(node.app.collection("users").create(user))
    popular = "title = 'popular'"
    assert node.run(node.posts.list(filter=popular)).total_items == 1
    signed_in = node.run(node.app.sign_in("users", user["email"], user["password"]))
    assert signed_in.record.id == ann.id
    for caller in (node.app.as_user(ann), node.app.as_user(signed_in.token)):
        assert isinstance(caller, Caller)
        assert node.run(caller.collection("posts").list(filter=popular)).total_items == 0
        assert node.run(caller.collection("posts").create({"title": "hers"})).title == "hers"
    with pytest.raises(ApiError) as refused:
        node.run(node.app.as_guest().collection("posts").create({"title": "nobody's"}))
    assert refused.value.status == 400
    with pytest.raises(ApiError) as refused:
        node.run(node.app.as_user(ann).send("GET", "/api/collections"))
    assert refused.value.status == 403
    node.run(node.app.send("PATCH", "/api/collections/users", body={"authRule": "verified = true"}))
    for password, status in ((user["password"], 403), ("wrong", 400)):
        with pytest.raises(ApiError) as refused:
            node.run(node.app.sign_in("users", user["email"], password))
        assert refused.value.status == status


def test_sql(node):
    node.run(node.app.sql("CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT)"))
    written = node.run(node.app.sql("INSERT INTO notes (text) VALUES (?), (?)", "a", None))
    assert (written.changed, written.last_row_id) == (2, 2)
    assert node.run(node.app.sql("SELECT * FROM notes WHERE id > ?", 1)).dicts() == [{"id": 2, "text": None}]
    with pytest.raises(SqlError, match="no such table"):
        node.run(node.app.sql("SELECT * FROM nowhere"))
    both = [("INSERT INTO notes (text) VALUES (?)", ("b",)), ("INSERT INTO notes (id) VALUES (?)", (1,))]
    with pytest.raises(SqlError, match="UNIQUE"):
        node.run(node.app.sql_batch(both))
    assert node.run(node.app.sql("SELECT count(*) FROM notes")).value == 2, "all or nothing"
    assert [each.changed for each in node.run(node.app.sql_batch(both[:1] * 2))] == [1, 1]


def test_what_changes_is_heard_in_order_also_after_a_pause(node):
    async def scenario():
        heard, done = [], asyncio.Event()

        async def handler(event):
            heard.append((event.action, event.record.title))
            if event.action == "update":
                raise ValueError("the program's own mistake")
            if event.action == "delete":
                await subscription.stop()
                done.set()

        mistakes = []
        await node.posts.create({"title": "before"})
        asyncio.get_running_loop().set_exception_handler(lambda _, context: mistakes.append(context["exception"]))
        subscription = await node.app.subscribe("posts/*", handler)
        made = await node.posts.create({"title": "heard", "views": 1})
        await node.posts.update(made.id, {"title": "changed"})
        await node.posts.delete(made.id)
        async with asyncio.timeout(20):
            await done.wait()
        await node.posts.create({"title": "not heard"})
        asyncio.get_running_loop().set_exception_handler(None)
        assert heard == [("create", "heard"), ("update", "changed"), ("delete", "changed")]
        assert [str(each) for each in mistakes] == ["the program's own mistake"]
        async with asyncio.timeout(20):
            first = await anext(node.app.changes(0))
            found = []
            async for event in node.app.changes(first.cursor):
                found.append(event)
                if event.action == "delete" and event.record.id == made.id:
                    break
        mine = [event for event in found if event.record.id == made.id]
        assert [event.action for event in mine] == ["create", "update", "delete"]
        assert mine[0].record == made and mine[0].old is None
        assert mine[1].old == made and mine[1].record.title == "changed"

    node.run(scenario())


@pytest.mark.parametrize("topic", ["posts", "posts/", "/x", ""])
def test_a_topic_names_a_collection_and_a_record(node, topic):
    with pytest.raises(pando.PandoError, match="is no topic"):
        node.run(node.app.subscribe(topic, print))


async def ask(asgi, method, path, *, root="", body=b"", headers=()):
    """One request to an ASGI application; gives status and JSON."""
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http"}
    scope |= {"path": root + path, "root_path": root, "headers": [*headers], "query_string": b""}
    sent = []

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message):
        sent.append(message)

    await asgi(scope, receive, send)
    return sent[0]["status"], json.loads(b"".join(each.get("body", b"") for each in sent[1:]))


def test_the_asgi_application_alone_and_under_a_path(node):
    made = node.run(node.posts.create({"title": "mounted"}))
    for root in ("", "/backend"):
        status, found = node.run(ask(node.app.asgi, "GET", f"/api/collections/posts/records/{made.id}", root=root))
        assert (status, found) == (200, made)
    status, found = node.run(ask(node.app.asgi, "GET", "/health"))
    assert status == 200 and found["status"] == "ok"


def test_sql_over_a_websocket_under_a_path(node):
    async def scenario():
        coming, sent = asyncio.Queue(5), asyncio.Queue(5)
        scope = {"type": "websocket", "path": "/backend/", "root_path": "/backend", "subprotocols": ["hrana2"]}
        scope |= {"headers": [], "query_string": b"", "extensions": {}}
        await coming.put({"type": "websocket.connect"})
        holding = asyncio.create_task(node.app.asgi(scope, coming.get, sent.put))
        assert (await sent.get())["type"] == "websocket.accept"
        secret = (node.app.settings.dir / ".pando" / "secret").read_text().strip()
        await coming.put(
            {"type": "websocket.receive", "text": json.dumps({"type": "hello", "jwt": make_token(secret)})}
        )
        assert json.loads((await sent.get())["text"]) == {"type": "hello_ok"}
        await coming.put({"type": "websocket.disconnect", "code": 1000})
        await holding

    node.run(asyncio.wait_for(scenario(), 20))


def test_another_event_loop_has_a_site_of_its_own(node):
    async def elsewhere():
        made = await node.posts.create({"title": "from another loop"})
        await node.app.stop()
        return made

    made = asyncio.run(elsewhere())
    assert node.run(node.posts.view(made.id)) == made


def test_a_site_of_which_a_part_has_failed_is_replaced(node):
    first = node.run(node.app.running())
    first._broken.set()
    made = node.run(node.posts.create({"title": "on another site"}))
    second = node.run(node.app.running())
    assert second is not first and node.run(node.app.running()) is second
    assert node.run(node.posts.view(made.id)) == made


def test_any_route_by_its_address(node):
    made = node.run(node.posts.create({"title": "by address"}))
    path = "/api/collections/posts/records?fields=title&filter=title='by%20address'"
    found = node.run(node.app.send("GET", path, query={"skipTotal": "1"}))
    assert found["items"] == [{"title": "by address"}] and found["totalItems"] == -1
    assert node.run(node.app.send("GET", f"collections/p%6Fsts/records/{made.id}")) == made
    batch = [{"method": "POST", "url": "/api/collections/posts/records", "body": {"title": "in a batch"}}] * 2
    node.run(node.app.send("PATCH", "/api/settings", body={"batch": {"enabled": True, "maxRequests": 5}}))
    made = node.run(node.app.send("POST", "/api/batch", body={"requests": batch}))
    assert [each["status"] for each in made] == [200, 200]


@pytest.mark.parametrize("path", ["/api/realtime", "/api/changes"])
def test_routes_without_json_are_for_http(node, path):
    with pytest.raises(pando.PandoError, match="gives no JSON"):
        node.run(node.app.send("GET", path))


def test_bad_settings_are_refused_at_once(tmp_path):
    with pytest.raises(pando.PandoError, match="there is no setting 'htp'"):
        Pando(tmp_path, htp="x")
