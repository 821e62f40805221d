"""Cursors, and protocol buffers, over HTTP."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from pipeline_kit import Exchange, Reply, Site

from pando.api.pipeline import Headers
from pando.sql.batons import Baton, BatonCodec
from pando.testing import protobuf_kit as kit

PROBES = ["/v1", "/v2", "/v3", "/v3-protobuf"]


def execute(sql: str, **more: object) -> dict[str, Any]:
    return {"type": "execute", "stmt": {"sql": sql, **more}}


def send(site: Site, path: str, json_body: dict[str, Any], **headers: str) -> Reply:
    """Send a pipeline or a cursor in the encoding that the path asks for."""
    if "protobuf" not in path:
        body = json.dumps(json_body).encode()
    else:
        body = kit.cursor_bytes(json_body) if path.endswith("cursor") else kit.pipeline_bytes(json_body)
    return site.exchange(
        Exchange([body]), path, headers={name.replace("_", "-"): each for name, each in headers.items()}
    )


def cursor(reply: Reply) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Give head and entries of a cursor's answer."""
    assert reply.status == 200
    if reply.headers[b"content-type"] == b"text/plain":
        assert reply.body.endswith(b"\n")
        head, *entries = [json.loads(line) for line in reply.body.splitlines()]
        return head, entries
    assert reply.headers[b"content-type"] == b"application/octet-stream"
    first, *rest = kit.read_prefixed(reply.body)
    head = {"baton": None, "base_url": None} | kit.read("CursorHead", first)
    return head, [kit.json_entry(kit.read("CursorEntry", entry)) for entry in rest]


def pipeline(reply: Reply) -> dict[str, Any]:
    assert (reply.status, reply.headers[b"content-type"]) == (200, b"application/x-protobuf")
    answer = kit.read("PipelineAnswer", reply.body)
    shown = [
        {"type": "error", **each} if "error" in each else {"type": "ok", "response": kit.json_response(each["ok"], 2)}
        for each in answer["results"]
    ]
    return {"baton": None, **answer, "results": shown}


def batch(*texts: str, baton: str | None = None) -> dict[str, Any]:
    return {"baton": baton, "batch": {"steps": [{"stmt": {"sql": text}} for text in texts]}}


def kinds(entries: list[dict[str, Any]]) -> list[str]:
    return [entry["type"] for entry in entries]


CURSORS = ["/v3/cursor", "/v3-protobuf/cursor"]
PIPELINES = ["/v3/pipeline", "/v3-protobuf/pipeline"]
END = {"/v3/cursor": ["replication_index"], "/v3-protobuf/cursor": []}


# -- cursors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", CURSORS)
def test_cursor_without_a_baton(site: Site, path: str) -> None:
    reply = send(site, path, batch("insert into t values(2, 'two') returning a", "select nope", "select b from t"))
    head, entries = cursor(reply)
    assert head == {"baton": None, "base_url": None}
    assert kinds(entries) == [
        "step_begin",
        "row",
        "step_end",
        "step_error",
        "step_begin",
        "row",
        "row",
        "step_end",
        *END[path],
    ]
    assert entries[2] == {"type": "step_end", "affected_row_count": 1, "last_insert_rowid": "2"}
    assert (entries[3]["step"], entries[3]["error"]["code"]) == (1, "SQL_INPUT_ERROR")
    assert [entry["row"][0]["value"] for entry in entries[5:7]] == ["one", "two"]
    assert reply.headers[b"pando-bookmark"] == b"data.1.2"


@pytest.mark.parametrize("path", CURSORS)
def test_who_sends_an_index_gets_one_in_any_encoding(site: Site, path: str) -> None:
    asked = batch("select 1")
    asked["batch"]["replication_index"] = "1"
    _, entries = cursor(send(site, path, asked))
    assert entries[-1] == {"type": "replication_index", "replication_index": "1"}


@pytest.mark.parametrize("path", CURSORS)
def test_cursor_and_pipeline_share_a_stream(site: Site, path: str) -> None:
    first, _ = cursor(send(site, path, batch("begin immediate", "insert into t values(2, 2)")))
    assert first["baton"]
    second, entries = cursor(send(site, path, batch("select count(*) from t", baton=first["baton"])))
    assert entries[1]["row"][0]["value"] == "2"
    ended = site.post(execute("rollback"), baton=second["baton"])
    assert ended.json["baton"] is None
    _, entries = cursor(send(site, path, batch("select count(*) from t")))
    assert entries[1]["row"][0]["value"] == "1"


@pytest.mark.parametrize("path", CURSORS)
def test_conditions_and_stored_texts(site: Site, path: str) -> None:
    stored = site.post({"type": "store_sql", "sql_id": 7, "sql": "select 'stored'"}).json["baton"]
    steps = [
        {"stmt": {"sql": "select nope"}},
        {"stmt": {"sql_id": 7}, "condition": {"type": "ok", "step": 0}},
        {"stmt": {"sql_id": 7}, "condition": {"type": "not", "cond": {"type": "ok", "step": 0}}},
    ]
    head, entries = cursor(send(site, path, {"baton": stored, "batch": {"steps": steps}}))
    assert head["baton"]
    assert kinds(entries) == ["step_error", "step_begin", "row", "step_end", *END[path]]
    assert entries[1]["step"] == 2


@pytest.mark.parametrize("path", CURSORS)
def test_large_cursor_goes_out_in_pieces(site: Site, path: str) -> None:
    many = "with recursive n(i) as (select 1 union all select i + 1 from n limit 20000) select i from n"
    body = json.dumps(batch(many)).encode() if path == "/v3/cursor" else kit.cursor_bytes(batch(many))
    exchange = Exchange([body], stays=asyncio.Event())
    _, entries = cursor(site.exchange(exchange, path))
    assert kinds(entries).count("row") == 20_000
    pieces = [len(message["body"]) for message in exchange.sent[1:]]
    assert len(pieces) > 2
    assert max(pieces) < 128 * 1024


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (batch("select 1", baton="abc"), "Received an invalid baton"),
        ({"batch": {"steps": [{"stmt": {"sql_id": 5}}]}}, "SQL text 5 not found"),
        ({"batch": {"steps": [{"stmt": {"sql": "x"}, "condition": {"type": "ok", "step": 0}}]}}, "step"),
    ],
)
@pytest.mark.parametrize("path", CURSORS)
def test_broken_rules_are_plain_text(site: Site, path: str, asked: dict[str, Any], words: str) -> None:
    reply = send(site, path, asked)
    assert reply.status == 400
    assert words in reply.text


def test_cursor_in_v1_form_is_no_batch(site: Site) -> None:
    reply = site.exchange(Exchange([b'{"requests":[]}']), "/v3/cursor")
    assert (reply.status, reply.headers[b"content-type"]) == (400, b"text/plain")


# -- protocol buffers -------------------------------------------------------------------------------------------------


def test_pipeline_in_protocol_buffers(site: Site) -> None:
    requests = [
        {"type": "store_sql", "sql_id": 1, "sql": "select ?"},
        {"type": "execute", "stmt": {"sql_id": 1, "args": [{"type": "blob", "base64": "AP8"}]}},
        {"type": "batch", "batch": {"steps": [{"stmt": {"sql": "select 1"}}, {"stmt": {"sql": "nope"}}]}},
        {"type": "describe", "sql": "select :a"},
        {"type": "get_autocommit"},
        {"type": "sequence", "sql": "begin; delete from t"},
        {
            "type": "execute",
            "stmt": {"sql": "insert into t values(:a, -1)", "named_args": [{"name": "a", "value": {"type": "null"}}]},
        },
        {"type": "close_sql", "sql_id": 1},
    ]
    answer = pipeline(send(site, "/v3-protobuf/pipeline", {"requests": requests}))
    assert answer["baton"]
    stored, row, both, described, autocommit, ran, inserted, closed = (each["response"] for each in answer["results"])
    assert [each["type"] for each in (stored, ran, closed)] == ["store_sql", "sequence", "close_sql"]
    assert row["result"]["rows"] == [[{"type": "blob", "base64": "AP8"}]]
    assert [each is None for each in both["result"]["step_errors"]] == [True, False]
    assert described["result"]["params"] == [{"name": ":a"}]
    assert autocommit["is_autocommit"] is True
    assert (inserted["result"]["affected_row_count"], inserted["result"]["last_insert_rowid"]) == (1, "1")
    again = {"baton": answer["baton"], "requests": [{"type": "get_autocommit"}, {"type": "close"}]}
    last = pipeline(send(site, "/v3-protobuf/pipeline", again))
    assert (last["baton"], last["results"][0]["response"]["is_autocommit"]) == (None, False)


def test_failure_in_protocol_buffers(site: Site) -> None:
    (failed,) = pipeline(send(site, "/v3-protobuf/pipeline", {"requests": [execute("x")]}))["results"]
    assert failed["type"] == "error"
    assert failed["error"]["message"]


@pytest.mark.parametrize("path", ["/v3-protobuf/pipeline", "/v3-protobuf/cursor"])
@pytest.mark.parametrize("body", [b"\xff", b"\x12\x00\x13", b"{}"])
def test_what_is_not_protocol_buffers(site: Site, path: str, body: bytes) -> None:
    reply = site.exchange(Exchange([body]), path)
    assert (reply.status, reply.headers[b"content-type"]) == (400, b"text/plain")


# -- paths and processes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PROBES)
def test_probes_of_all_versions(site: Site, path: str) -> None:
    assert site.exchange(Exchange([b""]), path, "GET").status == 200


@pytest.mark.parametrize("path", [*CURSORS, *PIPELINES])
def test_database_by_path(site: Site, path: str) -> None:
    asked = batch("select x from o") if path in CURSORS else {"requests": [execute("select x from o")]}
    reply = send(site, f"/dev/other{path}", asked)
    assert reply.status == 200
    assert b"other" in reply.body


@pytest.mark.parametrize("path", [*CURSORS, *PIPELINES])
@pytest.mark.parametrize("prefix", ["/dev/other", ""])
def test_stream_of_another_process_keeps_its_database(tmp_path: Path, prefix: str, path: str) -> None:
    """What is sent on names the database in a header, whatever named it."""
    sent: list[tuple[str, dict[bytes, bytes]]] = []

    class Elsewhere:
        async def forward(self, baton: Baton, path: str, headers: Headers, body: bytes) -> tuple[int, Headers, bytes]:
            sent.append((path, dict(headers)))
            return 200, [(b"content-type", b"text/plain")], b"from elsewhere"

    site = Site(tmp_path, forwarder=Elsewhere())
    try:
        baton = BatonCodec(b"k" * 32).encode(Baton("m", 3, 5, 6))
        asked = batch("commit", baton=baton) if path in CURSORS else {"baton": baton, "requests": []}
        named = {} if prefix else {"x_namespace": "other"}
        reply = send(site, prefix + path, asked, **named)
        assert (reply.status, reply.body) == (200, b"from elsewhere")
        assert [(path, headers[b"x-namespace"]) for path, headers in sent] == [(path, b"other")]
    finally:
        site.close()
