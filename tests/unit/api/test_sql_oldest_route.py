"""POST / through the application, on a store that runs the statements."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asgi_client import Got, call
from pipeline_kit import Site

from pando.api.app import App
from pando.api.oldest_api import OldestApi
from pando.errors import PrimaryUnavailable, Unauthorized
from pando.log import EventLog


class Door:
    """The route `/` on a fake store."""

    def __init__(self, directory: Path) -> None:
        self.site = Site(directory, body_bytes_max=1000)
        self.app = App({}, EventLog("web-0", form="json", write=lambda _: None), lambda: "")
        self.app.by_first = OldestApi(self.site.handler).routes()

    def ask(self, method: str = "POST", path: str = "/", body: bytes = b"", **headers: str) -> Got:
        pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        got: Got = self.site.runner.run(call(self.app, method, path, body=body, headers=pairs))
        return got

    def post(self, *statements: object, **headers: str) -> Any:
        got = self.ask(body=json.dumps({"statements": statements}).encode(), **headers)
        assert got.headers[b"content-type"] == b"application/json"
        return got.json() if got.status == 200 else (got.status, got.json())


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    door = Door(tmp_path)
    yield door
    door.site.close()


def rows(entry: Any) -> Any:
    return entry["results"]["rows"]


def test_reads_and_writes(door: Door) -> None:
    inserted, counted = door.post("insert into t values(2, 'two')", {"q": "select b from t where a = ?", "params": [2]})
    assert (rows(inserted), rows(counted)) == ([], [["two"]])
    got = door.ask(body=b'{"statements":["select count(*) from t"]}')
    assert (got.headers[b"pando-bookmark"], rows(got.json()[0])) == (b"data.1.2", [[2]])


def test_first_failure_takes_all_back(door: Door) -> None:
    found = door.post("insert into t values(2, 2)", "insert into t values(1, 1)", "select 5")
    assert found[1:] == [{"error": "UNIQUE constraint failed: t.a"}, None]
    assert rows(door.post("select count(*) from t")[0]) == [[1]]


def test_transactions_of_the_list_itself(door: Door) -> None:
    assert len(door.post("begin", "insert into t values(2, 2)", "commit")) == 3
    found = door.post("begin", "insert into t values(3, 3)", "select nope", "commit")
    assert found[2:] == [{"error": "no such column: nope in select nope at offset 7"}, None]
    assert rows(door.post("select count(*) from t")[0]) == [[2]]
    assert door.post("commit") == [{"error": "cannot commit - no transaction is active"}]


def test_what_is_refused(door: Door) -> None:
    words = "Query error: `interactive transaction not allowed in HTTP queries`"
    assert door.post("begin", "delete from t") == (400, {"error": words})
    got = door.ask(body=b"{}")
    assert (got.status, got.headers[b"content-type"]) == (422, b"text/plain; charset=utf-8")
    assert door.ask(body=b"x" * 1001).status == 413


def test_database_and_rights_are_those_of_pipelines(door: Door) -> None:
    assert rows(door.post("select x from o", x_namespace="other")[0]) == [["other"]]
    door.site.access = Unauthorized("no such token")
    assert door.post("select 1")[0] == 401


def test_primary_away(door: Door) -> None:
    door.site.store.fail = PrimaryUnavailable("the primary is away")
    status, body = door.post("delete from t")
    assert (status, body["code"]) == (503, "PRIMARY_UNAVAILABLE")


@pytest.mark.parametrize(("method", "status"), [("GET", 404), ("HEAD", 404), ("PUT", 405)])
def test_other_methods(door: Door, method: str, status: int) -> None:
    got = door.ask(method)
    assert got.status == status
    if status == 404:
        assert got.body == b""


def test_other_paths_without_a_name(door: Door) -> None:
    assert door.ask(path="//x").status == 404
