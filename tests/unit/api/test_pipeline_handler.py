from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from pipeline_kit import Exchange, Reply, Site

from pando.api import pipeline as module
from pando.api.pipeline import BATON_HOP, Headers, drain, host_label, split_dev_path
from pando.errors import NotFound, OutcomeUnknown, Overloaded, PandoError, PrimaryUnavailable, Unauthorized
from pando.sql.access import Access
from pando.sql.batons import Baton, BatonCodec

ENDLESS = "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n"


def sql(text: str) -> dict[str, object]:
    return {"type": "execute", "stmt": {"sql": text}}


def first_cell(reply: Reply) -> str:
    value: str = reply.json["results"][0]["response"]["result"]["rows"][0][0]["value"]
    return value


# -- routes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v2/pipeline", "/v3/pipeline", "/dev/data/v2/pipeline", "/dev/default/v3/pipeline"])
def test_pipeline_paths(site: Site, path: str) -> None:
    reply = site.post(sql("select b from t"), {"type": "get_autocommit"}, path=path)
    assert reply.status == 200
    assert first_cell(reply) == "one"
    assert reply.json["results"][1]["response"] == {"type": "get_autocommit", "is_autocommit": True}


@pytest.mark.parametrize("path", ["/v1", "/v2", "/v3"])
def test_probes(site: Site, path: str) -> None:
    reply = site.exchange(Exchange([b""]), path, "GET")
    assert reply.status == 200
    assert reply.text


def test_other_methods_and_paths(site: Site) -> None:
    assert site.exchange(Exchange([b""]), "/v2/pipeline", "GET").status == 405
    assert site.exchange(Exchange([b"{}"]), "/dev/nothing/here").status == 404


@pytest.mark.parametrize("path", ["/dev/", "/dev/x", "/dev//v2/pipeline", "/dev/x/v2", "/dev/x/y/v2/pipeline"])
def test_broken_dev_paths(path: str) -> None:
    with pytest.raises(NotFound):
        split_dev_path(path)


# -- which database ---------------------------------------------------------------------------------------------------


def test_database_by_header_and_path(site: Site) -> None:
    assert first_cell(site.post(sql("select x from o"), x_namespace="other")) == "other"
    assert first_cell(site.post(sql("select x from o"), path="/dev/other/v2/pipeline")) == "other"
    assert first_cell(site.post(sql("select b from t"), x_namespace="default")) == "one"
    assert site.post(sql("select b from t"), host="other.example.com").status == 200


@pytest.mark.parametrize(
    ("host", "label"),
    [
        ("shop.example.com", "shop"),
        ("shop.example.com:8090", "shop"),
        ("localhost:8090", None),
        ("app.localhost", None),
        ("127.0.0.1:8090", None),
        ("127.0.0.1", None),
        ("[::1]:8090", None),
        ("[2001:db8::1.2.3.4]", None),
        ("shop", None),
        ("shop.", None),
        ("", None),
    ],
)
def test_host_label(host: str, label: str | None) -> None:
    assert host_label(host) == label


def test_database_from_the_host_if_asked_for(tmp_path: Path) -> None:
    site = Site(tmp_path, database_from_host=True)
    try:
        assert first_cell(site.post(sql("select x from o"), host="other.example.com")) == "other"
        assert first_cell(site.post(sql("select b from t"), host="127.0.0.1:8090")) == "one"
        assert first_cell(site.post(sql("select b from t"), host="other.example.com", x_namespace="data")) == "one"
    finally:
        site.close()


def test_unknown_and_impossible_databases(site: Site) -> None:
    unknown = site.post(sql("select 1"), x_namespace="nope")
    assert (unknown.status, unknown.json["code"]) == (404, "UNKNOWN_DATABASE")
    impossible = site.post(sql("select 1"), x_namespace="../etc/passwd")
    assert (impossible.status, impossible.json["code"]) == (400, "INVALID_DATABASE_NAME")


def test_token_of_another_database_is_told_that_there_is_none(site: Site) -> None:
    site.access = Access(databases=frozenset({"other"}))
    assert site.post(sql("select b from t")).status == 404
    assert site.post(sql("select x from o"), x_namespace="other").status == 200


# -- errors -----------------------------------------------------------------------------------------------------------


def test_no_token(site: Site) -> None:
    site.access = Unauthorized("a token is needed")
    exchange = Exchange([b"{}"])
    reply = site.exchange(exchange)
    assert (reply.status, reply.headers[b"www-authenticate"]) == (401, b"Bearer")
    assert reply.json == {
        "error": "a token is needed",
        "message": "a token is needed",
        "code": "AUTH_INVALID",
        "retryable": False,
    }
    assert exchange.taken == 0


def test_read_only_token(site: Site) -> None:
    site.access = Access(read_only=True)
    assert site.post(sql("select b from t")).status == 200
    assert site.post(sql("delete from t")).status == 403


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"{", "not a Hrana pipeline"),
        (b"", "not a Hrana pipeline"),
        (b'{"requests":[{"type":"x"}]}', "not a Hrana pipeline"),
        (b'{"requests":[{"type":"execute","stmt":{"sql_id":3}}]}', "SQL text 3 not found"),
        (b'{"requests":[], "baton": "garbage"}', "Received an invalid baton"),
    ],
)
def test_protocol_errors_are_plain_text(site: Site, body: bytes, text: str) -> None:
    reply = site.exchange(Exchange([body]))
    assert reply.status == 400
    assert text in reply.text


def test_texts_about_batons(site: Site) -> None:
    first = site.post(sql("begin immediate")).json["baton"]
    second = site.post(sql("insert into t values(2, 2)"), baton=first).json["baton"]
    assert site.post(sql("commit"), baton=first).text == "Received a baton that has already been used"
    site.post({"type": "close"}, baton=second)
    assert site.post(sql("commit"), baton=second).text == "Stream for this baton was closed"
    third = site.post(sql("begin immediate")).json["baton"]
    site.streams.expire(float("inf"))
    expired = site.post(sql("commit"), baton=third)
    assert expired.status == 400
    assert expired.json["code"] == "STREAM_EXPIRED"


def test_failing_statements_are_within_the_answer(site: Site) -> None:
    reply = site.post(sql("insert into t values(1, 'again')"), sql("sel"))
    assert reply.status == 200
    assert [entry["error"] for entry in reply.json["results"]] == [
        {
            "message": "SQLite error: UNIQUE constraint failed: t.a",
            "code": "SQLITE_CONSTRAINT",
            "extended_code": "SQLITE_CONSTRAINT_PRIMARYKEY",
        },
        {
            "message": 'SQL string could not be parsed: near "sel": syntax error (at offset 0)',
            "code": "SQL_PARSE_ERROR",
            "extended_code": "SQLITE_ERROR",
        },
    ]


@pytest.mark.parametrize(
    ("error", "status", "retryable"),
    [
        (PrimaryUnavailable("the primary is away"), 503, True),
        (OutcomeUnknown("the link broke"), 503, False),
        (Overloaded("full"), 503, True),
    ],
)
def test_errors_of_the_cluster(site: Site, error: PandoError, status: int, retryable: bool) -> None:
    site.store.fail = error
    reply = site.post(sql("insert into t values(2, 2)"))
    assert reply.status == status
    assert reply.json["code"] == error.code
    assert reply.json["error"] == error.message
    assert reply.json["retryable"] is retryable


def test_bug_of_ours_is_an_answer(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(site.service, "answer", explode)
    exchange = Exchange([b'{"requests":[]}'])
    with pytest.raises(ZeroDivisionError):  # for the server's log
        site.exchange(exchange)
    reply = exchange.reply()
    assert (reply.status, reply.json["code"]) == (500, "INTERNAL")
    assert "oops" not in reply.json["error"]


# -- bodies -----------------------------------------------------------------------------------------------------------


def test_body_in_pieces(site: Site) -> None:
    body = json.dumps({"requests": [sql("select b from t")]}).encode()
    assert first_cell(site.exchange(Exchange([body[:7], body[7:20], b"", body[20:]]))) == "one"


def test_body_announced_too_large_is_not_read_before_the_answer(site: Site) -> None:
    exchange = Exchange([b"x" * 1000] * 100)
    reply = site.exchange(exchange, headers={"content-length": str(100 * 1024 * 1024)})
    assert (reply.status, reply.headers[b"connection"]) == (413, b"close")
    assert reply.json["code"] == "REQUEST_TOO_LARGE"
    assert exchange.taken_at_answer == 0
    assert exchange.taken == 100  # dropped, so that the client comes to read


def test_client_that_waits_for_100_continue_is_refused_at_once(site: Site) -> None:
    exchange = Exchange([b"x" * 1000] * 100)
    headers = {"content-length": str(100 * 1024 * 1024), "expect": "100-continue"}
    assert site.exchange(exchange, headers=headers).status == 413
    assert exchange.taken == 0


def test_endless_body_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DRAIN_BYTES_MAX", 1_000_000)
    site = Site(tmp_path, body_bytes_max=100_000)
    try:
        exchange = Exchange([], is_endless=True)
        assert site.exchange(exchange).status == 413
        assert exchange.taken_at_answer == 2
        assert exchange.taken < 30
    finally:
        site.close()


def test_draining_has_a_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DRAIN_S", 0.01)

    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    asyncio.run(drain(receive))


def test_client_that_leaves_in_the_middle_of_its_body(site: Site) -> None:
    exchange = Exchange([b"{"])
    exchange.is_endless = False

    async def receive() -> dict[str, Any]:
        if exchange.taken == 0:
            exchange.taken = 1
            return {"type": "http.request", "body": b"{", "more_body": True}
        return {"type": "http.disconnect"}

    exchange.receive = receive  # type: ignore[method-assign]
    assert site.exchange(exchange).status == 400


def test_wrong_content_length(site: Site) -> None:
    assert site.exchange(Exchange([b"{}"]), headers={"content-length": "x"}).status == 400


def test_client_that_leaves_stops_its_long_read(site: Site) -> None:
    async def run() -> Reply:
        exchange = Exchange([json.dumps({"requests": [sql(ENDLESS)]}).encode()], stays=asyncio.Event())
        scope = {"type": "http", "method": "POST", "path": "/v2/pipeline", "headers": []}
        task = asyncio.create_task(site.handler(scope, exchange.receive, exchange.send))
        while not site.service.long_reads:
            await asyncio.sleep(0)
        assert exchange.stays is not None
        exchange.stays.set()
        await task
        return exchange.reply()

    assert site.runner.run(run()).status == 400
    assert site.service.long_reads == 0


# -- headers ----------------------------------------------------------------------------------------------------------


def test_bookmark_goes_out_and_comes_back(tmp_path: Path) -> None:
    site = Site(tmp_path, is_primary=False)
    try:
        written = site.post(sql("insert into t values(2, 'two')"), authorization="Bearer writer")
        bookmark = written.headers[b"pando-bookmark"].decode()
        assert bookmark == "data.1.2"
        assert b"set-cookie" not in written.headers
        count_ = sql("select count(*) from t")
        assert first_cell(site.post(count_)) == "1"
        assert first_cell(site.post(count_, authorization="Bearer writer")) == "2"
        assert first_cell(site.post(count_, pando_bookmark=bookmark)) == "2"
        assert first_cell(site.post(count_, cookie=f"a=b; pando_bookmark={bookmark}; c=d")) == "2"
        assert first_cell(site.post(count_, cookie=f"pando_bookmark={bookmark}", pando_bookmark="data.1.1")) == "1"
        assert first_cell(site.post(count_, pando_bookmark=bookmark, pando_freshness="eventual")) == "1"
        assert first_cell(site.post(count_, pando_freshness="strong")) == "2"
        # The strong read has shown the newest commit: the same caller does not see older data next.
        set_cookie = site.post(count_, cookie="a=b").headers[b"set-cookie"]
        assert set_cookie.startswith(b"pando_bookmark=data.1.2;")
    finally:
        site.close()


def test_pipeline_without_statements_has_no_bookmark(site: Site) -> None:
    assert b"pando-bookmark" not in site.post({"type": "close"}).headers


def test_durability(site: Site) -> None:
    site.post(sql("delete from t"), pando_durability="quorum")
    assert site.store.runs[-1].durability == "quorum"
    assert site.post(sql("delete from t"), pando_durability="hope").status == 400


@pytest.mark.parametrize("header", ["pando_bookmark", "pando_freshness"])
def test_unreadable_headers(site: Site, header: str) -> None:
    assert site.post(sql("select 1"), **{header: "nonsense"}).status == 400
    assert site.post(sql("select 1"), cookie="pando_bookmark=nonsense").status == 200


# -- streams of other processes ---------------------------------------------------------------------------------------


class Elsewhere:
    """Notes what is sent on."""

    def __init__(self) -> None:
        self.calls: list[tuple[Baton, str, bytes]] = []

    async def forward(self, baton: Baton, path: str, headers: Headers, body: bytes) -> tuple[int, Headers, bytes]:
        self.calls.append((baton, path, body))
        return 200, [(b"content-type", b"application/json")], b'{"from": "elsewhere"}'


def test_stream_of_another_process_is_sent_there_once(tmp_path: Path) -> None:
    elsewhere = Elsewhere()
    site = Site(tmp_path, web=0, forwarder=elsewhere)
    try:
        baton = BatonCodec(b"k" * 32).encode(Baton("m", 3, 5, 6))
        assert site.post(sql("commit"), baton=baton).json == {"from": "elsewhere"}
        assert elsewhere.calls[0][0] == Baton("m", 3, 5, 6)
        assert json.loads(elsewhere.calls[0][2])["baton"] == baton
        hopped = site.post(sql("commit"), baton=baton, **{BATON_HOP.decode(): "1"})
        assert hopped.text == "Stream for this baton was closed"
        assert len(elsewhere.calls) == 1
    finally:
        site.close()


# -- Hrana 1 over HTTP ------------------------------------------------------------------------------------------------


def stateless(site: Site, path: str, body: object) -> Reply:
    return site.exchange(Exchange([json.dumps(body).encode()]), path)


def test_stateless_execute_and_batch(site: Site) -> None:
    reply = stateless(site, "/v1/execute", {"stmt": {"sql": "select b from t"}})
    assert reply.json["result"]["rows"] == [[{"type": "text", "value": "one"}]]
    assert reply.headers[b"pando-bookmark"] == b"data.1.1"
    steps = [{"stmt": {"sql": "insert into t values(2, 2)"}}, {"stmt": {"sql": "sel"}}]
    reply = stateless(site, "/v1/batch", {"batch": {"steps": steps}})
    assert reply.status == 200
    assert [error is not None for error in reply.json["result"]["step_errors"]] == [False, True]


@pytest.mark.parametrize(
    ("stmt", "status"),
    [
        ({"sql": "sel"}, 400),
        ({"sql": "select ?"}, 400),
        ({"sql": "insert into t values(1, 1)"}, 500),
        (
            {
                "sql": "select ?",
                "args": [{"type": "null"}],
                "named_args": [{"name": "a", "value": {"type": "null"}}],
            },
            501,
        ),
    ],
)
def test_stateless_failures_have_a_status(site: Site, stmt: object, status: int) -> None:
    reply = stateless(site, "/v1/execute", {"stmt": stmt})
    assert reply.status == status
    assert set(reply.json) >= {"message", "code"}
