"""Whatever door a pipeline comes through, the answer is the same: two sites alike, each asked the same things."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from doors_bench import CLOSE, DECLINED, LATER, NOW, READ, Doors, batch, script, sql, without_times
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pipeline_kit import Reply
from uvicorn.server import ServerState

from pando.api.app import App
from pando.api.pipeline import BATON_HOP
from pando.api.prompt import BODY_BYTES_MAX, HEADERS_REMEMBERED_MAX, PATHS
from pando.clock import SystemClock
from pando.errors import NotReady, OutcomeUnknown, Overloaded, PandoError, PrimaryUnavailable, TransactionTimeout
from pando.errors import Unauthorized as NoToken
from pando.log import EventLog
from pando.node.http_protocol import Gate, bind_gate
from pando.node.tokens import Authenticator, make_token
from pando.sql.access import Access
from pando.store.adopt import Giver

LONG = "with recursive n(i) as (select 1 union all select i + 1 from n limit 300000) select count(*) from n"
SECRET = "the cluster's secret"


class MovedClock(SystemClock):
    """The real clock, moved forward at will."""

    ahead_ms = 0

    def wall_ms(self) -> int:
        return super().wall_ms() + self.ahead_ms


@pytest.fixture
def doors(tmp_path: Path) -> Iterator[Doors]:
    doors = Doors(tmp_path)
    yield doors
    doors.close()


@pytest.fixture
def replica(tmp_path: Path) -> Iterator[Doors]:
    doors = Doors(tmp_path, is_primary=False)
    yield doors
    doors.close()


TEXT = {"type": "text", "value": "two"}
ONLY_IF_FAILED = {"stmt": {"sql": "select 2"}, "condition": {"type": "error", "step": 0}}
PIPELINES: list[tuple[str, list[object]]] = [
    (NOW, [READ]),
    (NOW, [READ, CLOSE]),
    (NOW, [sql("select ?", TEXT), sql("select ?, ?2", TEXT, {"type": "null"}), sql("select ?", TEXT, TEXT)]),
    (NOW, [sql("select :a", named_args=[{"name": "a", "value": TEXT}]), sql("select b from t", want_rows=False)]),
    (NOW, [sql("select nope from t"), sql("select * from not_there"), READ]),
    (NOW, [batch("select 1", ONLY_IF_FAILED), CLOSE]),
    (NOW, [batch("select nope", ONLY_IF_FAILED)]),
    (NOW, [script("select 1; select b from t")]),
    (NOW, [{"type": "describe", "sql": "select b from t where a = ?"}, {"type": "describe", "sql": "delete from t"}]),
    (NOW, [{"type": "get_autocommit"}]),
    (NOW, [CLOSE]),
    (NOW, []),
    (NOW, [READ, CLOSE, READ, CLOSE]),
    (NOW, [sql("explain query plan select * from t")]),
    (LATER, [sql("insert into t values(2, ?)", TEXT), CLOSE]),
    (LATER, [READ, sql("insert into t values(2, 'two') returning *"), READ, CLOSE]),
    (LATER, [sql("insert into t values(1, 'again')"), CLOSE]),
    (LATER, [sql("insert into t values(3, 3)"), CLOSE, sql("delete from t")]),
    (NOW, [sql("sel"), CLOSE]),
    (LATER, [sql("delete from not_there"), CLOSE]),
    (LATER, [batch("begin", "insert into t values(2, 2)", "commit"), CLOSE]),
    (LATER, [script("create table u(x); insert into u values(1); select * from u"), CLOSE]),
    (LATER, [sql("begin immediate"), sql("delete from t"), CLOSE]),
    (DECLINED, [sql("insert into t values(2, 'two')")]),
    (DECLINED, [sql("begin immediate"), sql("delete from t")]),
    (DECLINED, [sql("begin"), READ, sql("commit"), CLOSE]),
    (DECLINED, [sql("begin readonly"), READ]),
    (DECLINED, [{"type": "store_sql", "sql_id": 1, "sql": "select 1"}, {"type": "execute", "stmt": {"sql_id": 1}}]),
    (DECLINED, [CLOSE, {"type": "close_sql", "sql_id": 1}]),
    (DECLINED, [{"type": "execute", "stmt": {"sql_id": 1}}]),
    (DECLINED, [{"type": "execute", "stmt": {}}]),
    (DECLINED, [{"type": "execute", "stmt": {"sql": "select 1", "replication_index": "1"}}]),
    (DECLINED, [{"type": "describe", "sql": "select 1", "replication_index": 1}]),
    (DECLINED, [sql("select ?", {"type": "integer", "value": "x"})]),
    (DECLINED, [{"type": "unknown"}]),
]


# -- what is answered how ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("how", "requests"), PIPELINES, ids=lambda value: value if isinstance(value, str) else "")
def test_pipelines(doors: Doors, how: str, requests: list[object]) -> None:
    for _ in range(2):  # the second time the headers are remembered
        doors.ask(*requests)
        assert doors.how == how
    assert doors.ask(sql("select * from t order by a")).status == 200
    assert doors.how == NOW


@pytest.mark.parametrize("requests", [[], [CLOSE]])
def test_the_very_first_answer_may_have_no_bookmark(doors: Doors, requests: list[object]) -> None:
    reply = doors.ask(*requests)
    assert doors.how == NOW
    assert reply.headers[b"content-type"] == b"application/json"
    assert b"pando-bookmark" not in reply.headers
    assert doors.ask(READ).headers[b"pando-bookmark"] == b"data.1.1"
    assert b"pando-bookmark" not in doors.ask(*requests).headers


@pytest.mark.parametrize(
    ("how", "headers", "status"),
    [
        (NOW, {"x_namespace": "default"}, 200),
        (NOW, {"pando_bookmark": "data.1.1"}, 200),
        (NOW, {"pando_bookmark": "other.1.99"}, 200),
        (NOW, {"pando_durability": "quorum"}, 200),
        (NOW, {"user_agent": "x" * 5000}, 200),
        (NOW, {"expect": "nothing"}, 200),
        (DECLINED, {"pando_bookmark": "data.1.2"}, 200),
        (DECLINED, {"pando_bookmark": "data.2.0"}, 200),
        (DECLINED, {"pando_bookmark": "nonsense"}, 400),
        (DECLINED, {"pando_durability": "hope"}, 400),
        (DECLINED, {"pando_freshness": "eventual"}, 200),
        (DECLINED, {"pando_freshness": "strong"}, 200),
        (DECLINED, {"pando_freshness": "nonsense"}, 400),
        (DECLINED, {"cookie": "a=b"}, 200),
        (DECLINED, {"cookie": "pando_bookmark=data.1.1"}, 200),
        (DECLINED, {"origin": "https://example.com"}, 200),
        (DECLINED, {"x_namespace": "nope"}, 404),
        (DECLINED, {"x_namespace": "../etc/passwd"}, 400),
        (DECLINED, {BATON_HOP.decode(): "1"}, 200),
    ],
)
def test_headers(doors: Doors, how: str, headers: dict[str, str], status: int) -> None:
    for _ in range(2):
        reply = doors.ask(READ, **headers)
        assert (doors.how, reply.status) == (how, status)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"requests": 1}', b'{"requests": [], "baton": "x"}', b'{"requests":[{"type":"x"}]}']
)
def test_what_is_no_pipeline_is_told_by_the_ordinary_door(doors: Doors, body: bytes) -> None:
    assert doors.ask_raw(body).status == 400
    assert doors.how == DECLINED


def test_other_databases_have_their_own_answers(doors: Doors) -> None:
    for namespace, wanted in (("other", b"other.1.1"), ("data", b"data.1.1"), ("other", b"other.1.1")):
        reply = doors.ask(sql("select 1"), x_namespace=namespace)
        assert (doors.how, reply.headers[b"pando-bookmark"]) == (NOW, wanted)
    doors.ask(sql("delete from o"), CLOSE, x_namespace="other")
    assert (doors.how, doors.other.store.runs[-1].database) == (LATER, "other")


def test_a_database_that_is_not_open_or_was_replaced_is_opened_by_the_ordinary_door(tmp_path: Path) -> None:
    doors = Doors(tmp_path, is_warm=False)
    try:
        for _ in range(2):
            doors.ask(READ)
            assert doors.how == DECLINED
            doors.ask(READ)
            assert doors.how == NOW
            for site in doors.sites:
                site.store.database("data").generation += 1
    finally:
        doors.close()


def test_long_bodies_are_declined(doors: Doors) -> None:
    long = json.dumps({"requests": [sql("select 1 -- " + "x" * BODY_BYTES_MAX)]}).encode()
    assert doors.ask_raw(long).status == 200
    assert doors.how == DECLINED
    exact = b'{"requests": []}'.ljust(BODY_BYTES_MAX)
    assert doors.ask_raw(exact).status == 200
    assert doors.how == NOW


def test_a_limit_of_bodies_below_ours_is_obeyed(tmp_path: Path) -> None:
    doors = Doors(tmp_path, body_bytes_max=1024)
    try:
        assert doors.ask_raw(b'{"requests": []}'.ljust(1024)).status == 200
        assert doors.how == NOW
        assert doors.ask_raw(b'{"requests": []}'.ljust(1025)).status == 413
        assert doors.how == DECLINED
    finally:
        doors.close()


@pytest.mark.slow
def test_long_reads_are_declined_and_run_in_a_thread(doors: Doors) -> None:
    for requests in ([sql(LONG)], [sql(LONG), CLOSE], [batch(LONG)]):
        for _ in range(2):
            reply = doors.ask(*requests)
            assert (doors.how, reply.status) == (DECLINED, 200)
    assert b"300000" in reply.body
    doors.ask(READ)
    assert doors.how == NOW


# -- rights -----------------------------------------------------------------------------------------------------------


def test_a_token_that_may_only_read(doors: Doors) -> None:
    access = Access(read_only=True)
    doors.each(lambda site: setattr(site, "access", access))
    assert doors.ask(READ).status == 200
    assert doors.how == NOW
    for _ in range(2):
        reply = doors.ask(sql("delete from t"), CLOSE)
        assert (doors.how, reply.status, reply.json["code"]) == (LATER, 403, "FORBIDDEN")
    assert doors.other.store.runs == []


def test_a_token_of_another_database_is_told_that_there_is_none(doors: Doors) -> None:
    doors.each(lambda site: setattr(site, "access", Access(databases=frozenset({"other"}))))
    assert doors.ask(READ).status == 404
    assert doors.how == DECLINED
    assert doors.ask(sql("select x from o"), x_namespace="other").status == 200
    assert doors.how == NOW


def test_no_token(doors: Doors) -> None:
    doors.ask(READ, authorization="Bearer x")
    doors.each(lambda site: setattr(site, "access", NoToken("a token is needed")))
    reply = doors.ask(READ, authorization="Bearer x")
    assert (doors.how, reply.status, reply.headers[b"www-authenticate"]) == (DECLINED, 401, b"Bearer")


def test_remembered_headers_do_not_outlive_the_rights_they_came_with(doors: Doors) -> None:
    doors.ask(sql("delete from t"), CLOSE)
    assert doors.how == LATER
    for access, status in (
        (Access(read_only=True), 403),
        (Access(), 200),
        (Access(databases=frozenset({"other"})), 404),
        (Access(), 200),
    ):
        doors.each(lambda site, access=access: setattr(site, "access", access))  # type: ignore[misc]
        assert doors.ask(sql("delete from t"), CLOSE).status == status


@pytest.mark.parametrize("is_open", [False, True])
def test_remembered_headers_do_not_outlive_their_token(tmp_path: Path, is_open: bool) -> None:
    clock = MovedClock()
    doors = Doors(tmp_path, authenticate=Authenticator(SECRET, is_open=is_open, clock=clock).authenticate)
    try:
        brief = "Bearer " + make_token(SECRET, read_only=True, life_s=60, clock=clock)
        lasting = "Bearer " + make_token(SECRET, clock=clock)
        for token in (brief, lasting, brief):
            assert doors.ask(READ, authorization=token).status == 200
            assert doors.how == NOW
        assert doors.ask(sql("delete from t"), CLOSE, authorization=brief).status == 403
        clock.ahead_ms = 61_000
        reply = doors.ask(READ, authorization=brief)
        assert reply.status == (200 if is_open else 401)
        if is_open:  # whoever has no token that holds has what everybody has
            assert doors.ask(sql("delete from t"), CLOSE, authorization=brief).status == 200
        else:
            assert (doors.how, reply.json["code"]) == (DECLINED, "AUTH_JWT_EXPIRED")
        assert doors.ask(READ, authorization=lasting).status == 200
        assert doors.how == NOW
        assert doors.ask(READ).status == (200 if is_open else 401)
        assert doors.ask(READ, authorization="Bearer x").status == (200 if is_open else 401)
    finally:
        doors.close()


def test_only_so_many_headers_are_remembered(doors: Doors) -> None:
    body = json.dumps({"requests": [READ]}).encode()
    for number in range(HEADERS_REMEMBERED_MAX + 10):
        assert isinstance(doors.prompt([(b"x", b"%d" % number)], body), tuple)
    assert len(doors.prompt._calls) == HEADERS_REMEMBERED_MAX
    doors.prompt._calls.clear()
    for headers in ([(b"x", b"y" * 5000)], [(b"pando-bookmark", b"data.1.1")]):
        assert isinstance(doors.prompt(headers, body), tuple)
    assert doors.prompt._calls == {}


# -- writes -----------------------------------------------------------------------------------------------------------


def test_durability_is_respected(doors: Doors) -> None:
    for wanted in ("quorum", "", "async", "quorum"):
        headers = {"pando_durability": wanted} if wanted else {}
        doors.ask(sql("delete from t"), CLOSE, **headers)
        if doors.how == LATER:
            assert doors.other.store.runs[-1].durability == wanted
    assert doors.other.store.runs[-1].durability == "quorum"


@pytest.mark.parametrize(
    "error",
    [
        PrimaryUnavailable("the primary is away"),
        OutcomeUnknown("the link broke"),
        Overloaded("full"),
        NotReady("the store is starting"),
        TransactionTimeout("too slow"),
    ],
)
def test_errors_of_the_cluster(doors: Doors, error: PandoError) -> None:
    doors.each(lambda site: setattr(site.store, "fail", error))
    doors.ask(READ, sql("delete from t"), CLOSE)
    assert doors.how == LATER
    doors.ask(READ)
    assert doors.how == NOW


def test_nothing_has_happened_before_what_waits_is_awaited(doors: Doors) -> None:
    body = json.dumps({"requests": [sql("delete from t"), CLOSE]}).encode()
    waiting: Any = doors.prompt([], body)
    assert asyncio.iscoroutine(waiting)
    assert doors.other.store.runs == []
    status, _, _ = doors.other.runner.run(waiting)
    assert (status, len(doors.other.store.runs)) == (200, 1)


def test_a_bug_is_for_the_server_to_tell(doors: Doors) -> None:
    doors.other.store.fail = ZeroDivisionError("oops")  # type: ignore[assignment]
    body = json.dumps({"requests": [sql("delete from t"), CLOSE]}).encode()
    waiting: Any = doors.prompt([], body)
    with pytest.raises(ZeroDivisionError):
        doors.other.runner.run(waiting)


# -- replicas ---------------------------------------------------------------------------------------------------------


COUNT = {"type": "execute", "stmt": {"sql": "select count(*) from t"}}


def counted(reply: Reply) -> str:
    value: str = reply.json["results"][0]["response"]["result"]["rows"][0][0]["value"]
    return value


def test_own_writes_are_read_and_others_need_not_wait_for_them(replica: Doors) -> None:
    written = replica.ask(sql("insert into t values(2, 'two')"), CLOSE, authorization="Bearer writer")
    assert (replica.how, written.headers[b"pando-bookmark"]) == (LATER, b"data.1.2")
    assert counted(replica.ask(COUNT, authorization="Bearer writer")) == "2"
    assert replica.how == DECLINED
    assert counted(replica.ask(COUNT, authorization="Bearer else")) == "1"
    assert replica.how == NOW
    assert replica.ask(sql("select 1"), authorization="Bearer writer", x_namespace="other").status == 200
    assert replica.how == NOW
    replica.each(lambda site: site.store.replicate("data"))
    assert counted(replica.ask(COUNT, authorization="Bearer writer")) == "2"
    assert replica.how == NOW


def test_bookmarks_ahead_of_the_node_are_waited_for(replica: Doors) -> None:
    bookmark = replica.ask(sql("insert into t values(2, 'two')"), CLOSE).headers[b"pando-bookmark"].decode()
    replica.each(lambda site: setattr(site.store, "on_wait", lambda name, *_: site.store.replicate(name)))
    runs = len(replica.other.store.runs)
    assert counted(replica.ask(COUNT, pando_bookmark=bookmark, authorization="Bearer else")) == "2"
    assert replica.how == DECLINED
    assert len(replica.other.store.runs) == runs  # read here
    assert counted(replica.ask(COUNT, pando_bookmark=bookmark, authorization="Bearer else")) == "2"
    assert replica.how == NOW


def test_a_write_with_a_bookmark_ahead_of_the_node_goes_to_the_primary(replica: Doors) -> None:
    replica.ask(sql("insert into t values(2, 'two')"), CLOSE)
    reply = replica.ask(sql("insert into t values(3, 'three')"), CLOSE, pando_bookmark="data.1.2", authorization="x")
    assert (replica.how, reply.headers[b"pando-bookmark"]) == (DECLINED, b"data.1.3")


# -- all of it --------------------------------------------------------------------------------------------------------


REQUESTS = st.sampled_from(
    [
        *(request for _, requests in PIPELINES for request in requests),
        *(sql(f"insert into t values({number}, 'x')") for number in range(2, 5)),
        sql("update t set b = b || '+'"),
        sql("delete from t where a = 3"),
        sql("select * from t order by a"),
        sql("rollback"),
        sql("create table if not exists u(x)"),
        sql("select * from u"),
        sql("pragma user_version"),
        batch("begin", "update t set b = 'z'", "rollback", "select b from t"),
        CLOSE,
        CLOSE,
    ]
)
PIPELINE = st.lists(REQUESTS, max_size=4)
NAMES = (f"random-{number}" for number in count())


@pytest.mark.slow
@pytest.mark.parametrize("is_primary", [True, False])
def test_random_pipelines(tmp_path: Path, is_primary: bool) -> None:
    doors = Doors(tmp_path, is_primary=is_primary)
    hows = set()

    @settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(pipelines=st.lists(st.tuples(PIPELINE, st.booleans(), st.booleans()), min_size=1, max_size=6))
    def check(pipelines: list[tuple[list[object], bool, bool]]) -> None:
        name = next(NAMES)
        doors.each(
            lambda site: site.store.create(name, "create table t(a integer primary key, b); insert into t values(1, 1)")
        )
        caller = {"authorization": name, "x_namespace": name}
        bookmark = ""
        for requests, closes, remembers in pipelines:
            headers = caller | ({"pando_bookmark": bookmark} if bookmark and remembers else {})
            reply = doors.ask(*requests, *([CLOSE] if closes else []), **headers)
            bookmark = reply.headers.get(b"pando-bookmark", b"").decode() or bookmark
            hows.add(doors.how)
            if not remembers:
                doors.each(lambda site: site.store.replicate(name))
        doors.each(lambda site: site.store.replicate(name))
        assert doors.ask(sql("select * from t order by a"), **caller).status == 200

    try:
        check()
        assert hows == {NOW, LATER, DECLINED}
    finally:
        doors.close()


# -- through the protocol ---------------------------------------------------------------------------------------------


@asynccontextmanager
async def connected(doors: Doors, tmp_path: Path) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect to a server of the site that has both doors."""
    log = EventLog("web-0", form="json", write=lambda _: None)
    app = App({}, log, lambda: "")
    app.sql = doors.other.handler
    giver = Giver(str(tmp_path / "adopt.sock"))
    gate = Gate(connections_max=10, giver=giver, log=log, keep_alive_s=50)
    gate.prompts = dict.fromkeys(PATHS, doors.prompt)
    config = uvicorn.Config(app, http=bind_gate(gate), ws="none", lifespan="off", log_config=None)
    config.load()
    state = ServerState()
    state.default_headers = [(b"date", b"today")]
    loop = asyncio.get_running_loop()
    left, right = socket.socketpair()
    await loop.connect_accepted_socket(
        lambda: bind_gate(gate)(config=config, server_state=state, app_state={}, _loop=loop), left
    )
    reader, writer = await asyncio.open_connection(sock=right)
    try:
        yield reader, writer
    finally:
        writer.close()
        while state.connections:
            await asyncio.sleep(0)
        giver.close()


async def exchanged(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes, body: bytes) -> Any:
    writer.write(head)
    await writer.drain()
    for _ in range(10):
        await asyncio.sleep(0)
    writer.write(body)
    status, *lines = (await reader.readuntil(b"\r\n\r\n"))[:-4].split(b"\r\n")
    length = next(int(line[16:]) for line in lines if line.startswith(b"content-length: "))
    text = await reader.readexactly(length)
    rest = [line for line in lines if not line.startswith(b"content-length: ")]
    return status, rest, without_times(json.loads(text))


@pytest.mark.parametrize("path", ["/v2/pipeline", "/v3/pipeline"])
@pytest.mark.parametrize("lines", [[], ["Pando-Durability: async"], ["Origin: https://example.com"], ["Cookie: a=b"]])
@pytest.mark.parametrize("requests", [[READ], [sql("insert into t values(1, 1)"), CLOSE], [CLOSE], [READ, CLOSE, READ]])
def test_on_the_wire_both_doors_say_the_same(
    doors: Doors, tmp_path: Path, path: str, lines: list[str], requests: list[object]
) -> None:
    async def scenario() -> None:
        body = json.dumps({"requests": requests}).encode()
        start = (f"POST {path} HTTP/1.1", "Host: x", *lines, f"Content-Length: {len(body)}", "", "")
        head = "\r\n".join(start).encode()
        async with connected(doors, tmp_path) as (reader, writer):
            whole = await exchanged(reader, writer, head + body, b"")
            in_pieces = await exchanged(reader, writer, head, body)
        assert whole == in_pieces
        assert whole[0] == b"HTTP/1.1 200 OK"
        assert whole[1][:2] == [b"date: today", b"content-type: application/json"]

    doors.other.runner.run(scenario())
