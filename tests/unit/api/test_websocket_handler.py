from __future__ import annotations

import asyncio
import json
from itertools import count
from typing import Any

import pytest

from pando.api.app import App
from pando.api.websocket import RESTARTS, WebSocketHandler, namespace_of
from pando.clock import SystemClock
from pando.errors import NotFound, Unauthorized
from pando.log import EventLog
from pando.sql.access import FULL_ACCESS, Access
from pando.sql.batons import BatonCodec
from pando.sql.service import SqlService
from pando.sql.streams import StreamTable
from pando.testing import protobuf_kit as kit
from pando.testing.fake_sql_store import FakePositions, FakeSqlStore

HELLO = {"type": "hello", "jwt": "good"}


def authenticate(headers: list[tuple[bytes, bytes]]) -> Access:
    if dict(headers).get(b"authorization") != b"Bearer good":
        raise Unauthorized("no such token")
    return FULL_ACCESS


def request(number: int, type_: str, **fields: object) -> dict[str, object]:
    return {"type": "request", "request_id": number, "request": {"type": type_, **fields}}


def sql(number: int, text: str) -> dict[str, object]:
    return request(number, "execute", stream_id=1, stmt={"sql": text})


class Server:
    """The application on a fake store, with clients that send a list of messages and go."""

    def __init__(self, directory: Any) -> None:
        clock = SystemClock()
        ids = count(1)
        self.store = FakeSqlStore(directory, clock)
        self.store.create("data", "create table t(a integer primary key, b); insert into t values(1, 'one')")
        self.store.create("shop", "create table t(a integer primary key, b); insert into t values(1, 'shop')")
        streams = StreamTable(node="n", web=0, codec=BatonCodec(b"k" * 32), new_id=lambda: next(ids))
        self.service = SqlService(store=self.store, positions=FakePositions(self.store), streams=streams, clock=clock)
        self.lines: list[str] = []
        self.app = App({}, EventLog("web-0", form="json", write=self.lines.append), lambda: "the store is starting")
        self.app.websocket = WebSocketHandler(self.service, authenticate, EventLog("x", write=self.lines.append))

    def talk(
        self,
        *messages: object,
        path: str = "/",
        protocols: tuple[str, ...] = ("hrana3",),
        headers: tuple[tuple[bytes, bytes], ...] = (),
        answers: int = 0,
        says_goodbye: bool = True,
        goodbye: int = 1000,
    ) -> list[Any]:
        """Send messages (texts, bytes, or what becomes JSON); gives all that the server sent.

        The client goes when it has got so many answers, or waits until the server closes.
        """
        return asyncio.run(self._talk(messages, path, protocols, headers, answers, says_goodbye, goodbye))

    async def _talk(
        self,
        messages: tuple[object, ...],
        path: str,
        protocols: tuple[str, ...],
        headers: tuple[tuple[bytes, bytes], ...],
        answers: int,
        says_goodbye: bool,
        goodbye: int,
    ) -> list[Any]:
        scope = {
            "type": "websocket",
            "path": path,
            "headers": [(b"host", b"db.example"), *headers],
            "subprotocols": list(protocols),
        }
        pending = [{"type": "websocket.connect"}, *map(frame, messages)]
        sent: list[Any] = []
        changed = asyncio.Event()

        def is_over() -> bool:
            types = [each["type"] for each in sent]
            has_left = says_goodbye and types.count("websocket.send") >= answers
            return has_left or "websocket.close" in types

        async def receive() -> dict[str, object]:
            if pending:
                return pending.pop(0)
            while not is_over():
                changed.clear()
                await changed.wait()
            return {"type": "websocket.disconnect", "code": goodbye}

        async def send(message: dict[str, object]) -> None:
            sent.append(message)
            changed.set()

        async with asyncio.timeout(5):
            await self.app(scope, receive, send)
        return sent


def frame(message: object) -> dict[str, object]:
    if isinstance(message, bytes):
        return {"type": "websocket.receive", "bytes": message}
    text = message if isinstance(message, str) else json.dumps(message)
    return {"type": "websocket.receive", "text": text}


def texts(sent: list[Any]) -> list[Any]:
    return [json.loads(message["text"]) for message in sent if message["type"] == "websocket.send"]


def rows(answer: Any) -> Any:
    return [[cell["value"] for cell in row] for row in answer["response"]["result"]["rows"]]


@pytest.fixture
def server(tmp_path: Any) -> Any:
    server = Server(tmp_path)
    yield server
    server.service.close()
    server.store.close()


OPEN = request(1, "open_stream", stream_id=1)
PROTOBUF = ("hrana3", "hrana3-protobuf")


def binary(*messages: Any) -> list[bytes]:
    return [kit.client_message_bytes(message) for message in messages]


def read(sent: list[Any]) -> list[Any]:
    return [kit.read("ServerMessage", each["bytes"]) for each in sent if each["type"] == "websocket.send"]


def test_a_conversation(server: Server) -> None:
    sent = server.talk(HELLO, OPEN, sql(2, "select b from t"), answers=3)
    assert sent[0] == {"type": "websocket.accept", "subprotocol": "hrana3"}
    hello, opened, answer = texts(sent)
    assert (hello, opened["response"], rows(answer)) == ({"type": "hello_ok"}, {"type": "open_stream"}, [["one"]])
    assert [each["type"] for each in sent].count("websocket.close") == 0


def test_a_client_that_offers_nothing_speaks_the_first_version(server: Server) -> None:
    sent = server.talk(HELLO, HELLO, protocols=())
    assert sent[0]["subprotocol"] is None
    assert sent[-1]["code"] == 1008


def test_nothing_in_common_is_an_http_error(server: Server) -> None:
    start, body = server.talk(protocols=("mqtt",))
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 400)
    assert b"hrana3" in body["body"]


@pytest.mark.parametrize(
    ("path", "headers"),
    [("/dev/shop", ()), ("/dev/shop/", ()), ("/", ((b"x-namespace", b"shop"),))],
)
def test_the_database_comes_from_path_or_header(
    server: Server, path: str, headers: tuple[tuple[bytes, bytes], ...]
) -> None:
    sent = server.talk(HELLO, OPEN, sql(2, "select b from t"), path=path, headers=headers, answers=3)
    assert rows(texts(sent)[-1]) == [["shop"]]


def test_first_label_of_the_host_names_the_database_where_that_is_wanted(server: Server) -> None:
    log = EventLog("x", write=server.lines.append)
    server.app.websocket = WebSocketHandler(server.service, authenticate, log, database_from_host=True)
    (error,) = texts(server.talk(HELLO, OPEN, sql(2, "select 1"), answers=3))[2:]
    assert error["error"]["code"] == "UNKNOWN_DATABASE"


@pytest.mark.parametrize("path", ["/v2", "/dev", "/dev/", "/dev/a/b", "/cluster/status"])
def test_other_paths_are_not_found(server: Server, path: str) -> None:
    start, _ = server.talk(path=path)
    assert start["status"] == 404
    with pytest.raises(NotFound):
        namespace_of(path)


def test_bad_headers_are_refused_at_the_handshake(server: Server) -> None:
    for headers, status in ((((b"x-namespace", b"../x"),), 400), (((b"pando-bookmark", b"?"),), 400)):
        assert server.talk(headers=headers)[0]["status"] == status


def test_token_may_come_with_the_handshake(server: Server) -> None:
    headers = ((b"authorization", b"Bearer good"),)
    assert texts(server.talk({"type": "hello", "jwt": None}, headers=headers, answers=1)) == [{"type": "hello_ok"}]


def test_bad_token_is_told_and_the_connection_closed(server: Server) -> None:
    sent = server.talk({"type": "hello", "jwt": "bad"}, says_goodbye=False)
    assert texts(sent)[0]["error"]["code"] == "AUTH_INVALID"
    assert (sent[-1]["type"], sent[-1]["code"]) == ("websocket.close", 1008)


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        ((b"{}",), 1003),
        ((HELLO, b"{}"), 1003),
        (("{",), 1007),
        ((HELLO, '{"type":"request"}'), 1007),
        ((OPEN,), 1008),
        ((HELLO, OPEN, OPEN), 1008),
        ((HELLO, sql(1, "select 1")), 1008),
    ],
)
def test_close_codes(server: Server, messages: tuple[object, ...], code: int) -> None:
    sent = server.talk(*messages, says_goodbye=False)
    assert (sent[-1]["type"], sent[-1]["code"]) == ("websocket.close", code)
    assert 0 < len(sent[-1]["reason"].encode()) <= 123
    assert server.lines == []


def test_long_reason_is_cut_between_characters(server: Server) -> None:
    sent = server.talk(HELLO, request(1, "é" * 200), says_goodbye=False)
    assert 121 <= len(sent[-1]["reason"].encode()) <= 123


def test_client_that_says_nothing_is_closed(server: Server) -> None:
    log = EventLog("x", write=server.lines.append)
    server.app.websocket = WebSocketHandler(server.service, authenticate, log, hello_s=0.01)
    sent = server.talk(says_goodbye=False)
    assert (sent[-1]["code"], sent[-1]["reason"]) == (1008, "no hello within 0.01 s")


def test_a_bug_closes_with_1011_and_is_logged(server: Server) -> None:
    server.store.fail = ZeroDivisionError("oops")  # type: ignore[assignment]
    sent = server.talk(HELLO, OPEN, sql(2, "delete from t"), says_goodbye=False)
    assert any("request.failed" in line and "oops" in line for line in server.lines)
    assert (sent[-1]["code"], sent[-1]["reason"]) == (1011, "internal error")


def test_before_the_node_is_ready_the_handshake_is_refused(server: Server) -> None:
    server.app.websocket = None
    start, body = server.talk()
    assert start["status"] == 503
    assert (b"retry-after", b"1") in start["headers"]
    assert b"the store is starting" in body["body"]


def test_transaction_ends_with_the_connection(server: Server) -> None:
    server.talk(HELLO, OPEN, sql(2, "begin immediate"), sql(3, "delete from t"), answers=4)
    assert len(server.store.ended) == 1
    assert rows(texts(server.talk(HELLO, OPEN, sql(2, "select count(*) from t"), answers=3))[-1]) == [["1"]]


# -- protocol buffers -------------------------------------------------------------------------------------------------


def test_a_process_that_stops_answers_what_it_has_taken_and_then_closes(server: Server) -> None:
    opened = request(1, "open_stream", stream_id=1)
    begun = [sql(2, "BEGIN"), sql(3, "INSERT INTO t VALUES (7, 'lost')")]
    kept = [request(4, "open_stream", stream_id=2)]
    kept += [request(5, "execute", stream_id=2, stmt={"sql": "SELECT 1"})]
    sent = server.talk(HELLO, opened, *begun, *kept, goodbye=RESTARTS)
    assert {message.get("request_id") for message in texts(sent)} == {None, 1, 2, 3, 4, 5}
    assert all(message["type"] in ("hello_ok", "response_ok") for message in texts(sent))
    assert (sent[-1]["type"], sent[-1]["code"]) == ("websocket.close", RESTARTS)
    sent = server.talk(HELLO, opened, sql(2, "SELECT count(*) FROM t WHERE a = 7"), answers=3)
    assert texts(sent)[-1]["response"]["result"]["rows"] == [[{"type": "integer", "value": "0"}]], "rolled back"


def test_a_process_that_stops_closes_who_has_said_nothing(server: Server) -> None:
    (_, closed) = server.talk(goodbye=RESTARTS)
    assert (closed["type"], closed["code"]) == ("websocket.close", RESTARTS)


def test_a_conversation_in_protocol_buffers(server: Server) -> None:
    batch = {"steps": [{"stmt": {"sql": "select b from t"}}, {"stmt": {"sql": "select nope"}}]}
    asked = [
        *(HELLO, OPEN, sql(2, "insert into t values(2, 'two')"), sql(3, "nope")),
        request(4, "open_cursor", stream_id=1, cursor_id=9, batch=batch),
        request(5, "fetch_cursor", cursor_id=9, max_count=100),
        request(6, "get_autocommit", stream_id=1),
        request(7, "close_stream", stream_id=1),
    ]
    sent = server.talk(*binary(*asked), protocols=PROTOBUF, answers=8)
    assert sent[0] == {"type": "websocket.accept", "subprotocol": "hrana3-protobuf"}
    hello, *answers = read(sent)
    assert hello == {"hello_ok": {}}
    by_number = {held["request_id"]: (kind, held) for answer in answers for kind, held in answer.items()}
    assert [by_number[number][0] for number in range(1, 8)] == [
        *("response_ok", "response_ok", "response_error", "response_ok", "response_ok", "response_ok", "response_ok")
    ]
    inserted = by_number[2][1]["execute"]["result"]
    assert (inserted["affected_row_count"], inserted["last_insert_rowid"]) == (1, 2)
    fetched = by_number[5][1]["fetch_cursor"]
    kinds = [next(iter(entry)) for entry in fetched["entries"]]
    assert (kinds, fetched["done"]) == (["step_begin", "row", "row", "step_end", "step_error"], True)
    assert by_number[6][1]["get_autocommit"] == {"is_autocommit": True}


def test_bad_token_in_protocol_buffers(server: Server) -> None:
    sent = server.talk(*binary({"type": "hello", "jwt": "bad"}), protocols=PROTOBUF, says_goodbye=False)
    ((kind, held),) = read(sent)[0].items()
    assert (kind, held["error"]["code"]) == ("hello_error", "AUTH_INVALID")
    assert sent[-1]["code"] == 1008


@pytest.mark.parametrize(
    ("broken", "protocols", "code"),
    [
        ("{}", PROTOBUF, 1003),
        (b"\xff", PROTOBUF, 1007),
        (b"", PROTOBUF, 1007),
        (binary(OPEN)[0], PROTOBUF, 1008),
        (b"\x0a\x00", ("hrana3",), 1003),
        ("{", ("hrana3",), 1007),
        (OPEN, ("hrana3",), 1008),
    ],
)
def test_broken_message_leaves_nothing_behind(
    server: Server, broken: object, protocols: tuple[str, ...], code: int
) -> None:
    before: list[Any] = [HELLO, OPEN, sql(2, "begin immediate"), sql(3, "delete from t")]
    messages = binary(*before) if protocols is PROTOBUF else before
    sent = server.talk(*messages, broken, protocols=protocols, says_goodbye=False)
    assert (sent[-1]["type"], sent[-1]["code"]) == ("websocket.close", code)
    assert len(server.service._attached) == 0
    assert server.store._sessions == {}
    assert not server.store.database("data").writer.in_transaction
