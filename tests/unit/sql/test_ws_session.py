from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from service_bench import ENDLESS, LONG, Node
from ws_bench import Talk

from pando import limits
from pando.sql import ws_session
from pando.sql.messages import HranaProtocolError
from pando.sql.ws_messages import Unreadable
from pando.sql.ws_session import CURSORS_MAX, NotWelcome


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path, is_primary=True)
    yield node
    node.close()


@pytest.fixture
def replica(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path, is_primary=False, own_write_wait_s=0.0)
    yield node
    node.close()


def batch(*texts: str) -> dict[str, object]:
    return {"steps": [{"stmt": {"sql": text}} for text in texts]}


# -- hello ------------------------------------------------------------------------------------------------------------


def test_hello_with_a_token(node: Node) -> None:
    async def scenario() -> None:
        talk = Talk(node)
        assert await talk.hello() == {"type": "hello_ok"}
        assert await talk.ask("open_stream", stream_id=1) == {"type": "open_stream"}

    node.run(scenario())


def test_token_of_the_handshake_counts_without_one_in_hello(node: Node) -> None:
    async def scenario() -> None:
        talk = Talk(node, headers=[(b"authorization", b"Bearer reader")])
        assert await talk.hello(None) == {"type": "hello_ok"}
        await talk.ask("open_stream", stream_id=1)
        assert await talk.sql(1, "delete from t") == "FORBIDDEN"
        assert await talk.sql(1, "select b from t") == [["one"]]
        assert await talk.hello("good") == {"type": "hello_ok"}
        assert await talk.sql(1, "delete from t") == []

    node.run(scenario())


@pytest.mark.parametrize(
    ("jwt", "code"), [(None, "AUTH_INVALID"), ("bad", "AUTH_INVALID"), ("other", "UNKNOWN_DATABASE")]
)
def test_bad_token_is_told_and_ends_the_connection(node: Node, jwt: str | None, code: str) -> None:
    async def scenario() -> None:
        talk = Talk(node)
        with pytest.raises(NotWelcome):
            await talk.hello(jwt)
        assert talk.answers[0]["type"] == "hello_error"
        assert talk.answers[0]["error"]["code"] == code

    node.run(scenario())


def test_token_without_end_is_a_violation(node: Node) -> None:
    with pytest.raises(HranaProtocolError, match="token"):
        node.run(Talk(node).hello("x" * (ws_session.JWT_CHARS_MAX + 1)))


def test_request_before_hello_is_a_violation(node: Node) -> None:
    with pytest.raises(HranaProtocolError, match="hello"):
        node.run(Talk(node).post("open_stream", stream_id=1))


def test_second_hello_needs_version_two(node: Node) -> None:
    async def scenario(version: int) -> None:
        talk = Talk(node, version=version)
        await talk.hello()
        await talk.hello("reader")

    node.run(scenario(2))
    with pytest.raises(HranaProtocolError):
        node.run(scenario(1))


def test_token_that_expires_fails_requests_until_the_next_hello(node: Node) -> None:
    async def scenario() -> None:
        talk = await Talk(node).open(1)
        access = talk.tokens.pop(b"Bearer good")
        assert await talk.sql(1, "select 1") == "AUTH_INVALID"
        talk.tokens[b"Bearer new"] = access
        await talk.hello("new")
        assert await talk.sql(1, "select 1") == [["1"]]

    node.run(scenario())


# -- streams ----------------------------------------------------------------------------------------------------------


def test_every_request_of_a_stream(node: Node) -> None:
    async def scenario() -> None:
        talk = await Talk(node).open(-1)
        assert await talk.sql(-1, "select b from t where a = ?", args=[{"type": "integer", "value": "1"}]) == [["one"]]
        ran = await talk.ask("batch", stream_id=-1, batch=batch("insert into t values(2, 2)", "nope"))
        assert ran["type"] == "batch"
        assert [each is None for each in ran["result"]["step_errors"]] == [True, False]
        assert await talk.ask("sequence", stream_id=-1, sql="begin; delete from t") == {"type": "sequence"}
        assert await talk.ask("get_autocommit", stream_id=-1) == {"type": "get_autocommit", "is_autocommit": False}
        described = await talk.ask("describe", stream_id=-1, sql="select :x")
        assert described["result"]["params"] == [{"name": ":x"}]
        assert await talk.ask("close_stream", stream_id=-1) == {"type": "close_stream"}
        await talk.open(-1)
        assert await talk.sql(-1, "select count(*) from t") == [["2"]]

    node.run(scenario())


def test_requests_of_a_stream_run_in_order_though_all_are_sent_at_once(node: Node) -> None:
    async def scenario() -> None:
        talk = await Talk(node).open(1)
        texts = ["begin immediate", "insert into t values(2, 2)", "select count(*) from t", LONG, "commit"]
        numbers = [await talk.post_sql(1, text) for text in texts]
        assert [await talk.rows(number) for number in numbers] == [[], [], [["2"]], [["50000"]], []]
        assert talk.order()[-5:] == numbers

    node.run(scenario())


def test_streams_do_not_wait_for_each_other(node: Node) -> None:
    async def scenario() -> None:
        talk = await Talk(node).open(1, 2)
        slow = await talk.post_sql(1, LONG)
        quick = await talk.post_sql(2, "select 1")
        assert await talk.rows(slow) == [["50000"]]
        assert talk.order()[-2:] == [quick, slow]

    node.run(scenario())


def test_transactions_of_two_streams_are_apart(replica: Node) -> None:
    async def scenario() -> None:
        talk = await Talk(replica).open(1, 2)
        await talk.sql(1, "begin immediate")
        await talk.sql(1, "insert into t values(2, 2)")
        assert await talk.sql(2, "select count(*) from t") == [["1"]]
        assert await talk.sql(1, "select count(*) from t") == [["2"]]
        await talk.sql(1, "commit")
        replica.store.replicate("data")
        assert await talk.sql(2, "select count(*) from t") == [["2"]]

    replica.run(scenario())


def test_number_of_a_stream_is_free_once_it_was_closed(node: Node) -> None:
    async def scenario() -> None:
        talk = await Talk(node).open(1)
        await talk.post_sql(1, "begin immediate")
        closing = await talk.post("close_stream", stream_id=1)
        opening = await talk.post("open_stream", stream_id=1)
        assert await talk.answer(opening) == {"type": "open_stream"}
        assert await talk.answer(closing) == {"type": "close_stream"}
        assert await talk.ask("get_autocommit", stream_id=1) == {"type": "get_autocommit", "is_autocommit": True}

    node.run(scenario())


def test_stream_that_is_open_or_is_not_is_a_violation(node: Node) -> None:
    async def twice() -> None:
        await (await Talk(node).open(1)).post("open_stream", stream_id=1)

    async def never() -> None:
        await (await Talk(node).open(1)).post_sql(2, "select 1")

    for scenario in (twice, never):
        with pytest.raises(HranaProtocolError):
            node.run(scenario())


def test_closing_an_unknown_stream_is_fine(node: Node) -> None:
    async def scenario() -> None:
        talk = await Talk(node).open()
        assert await talk.ask("close_stream", stream_id=5) == {"type": "close_stream"}

    node.run(scenario())


def test_stream_that_could_not_be_opened_fails_what_uses_it(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ws_session, "STREAMS_PER_CONNECTION_MAX", 1)

    async def scenario() -> None:
        talk = await Talk(node).open(1)
        assert await talk.ask("open_stream", stream_id=2) == "STREAMS_TOO_MANY"
        assert await talk.sql(2, "select 1") == "STREAM_NOT_OPEN"
        with pytest.raises(HranaProtocolError):
            await talk.post("open_stream", stream_id=2)
        assert await talk.ask("close_stream", stream_id=2) == {"type": "close_stream"}
        assert await talk.ask("open_stream", stream_id=2) == "STREAMS_TOO_MANY"
        with pytest.raises(HranaProtocolError, match="too many"):
            await talk.post("open_stream", stream_id=3)

    node.run(scenario())


def test_process_without_room_for_streams(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STREAMS_MAX", 1)

    async def scenario() -> None:
        talk = await Talk(node).open(1)
        assert await talk.ask("open_stream", stream_id=2) == "OVERLOADED"
        await talk.ask("close_stream", stream_id=1)
        await talk.ask("close_stream", stream_id=2)
        assert await talk.ask("open_stream", stream_id=2) == {"type": "open_stream"}

    node.run(scenario())


# -- stored texts -----------------------------------------------------------------------------------------------------


def test_texts_belong_to_the_connection(node: Node) -> None:
    async def scenario() -> None:
        talk = await Talk(node).open(1, 2)
        assert await talk.ask("store_sql", sql_id=7, sql="select 7") == {"type": "store_sql"}
        use = {"stmt": {"sql_id": 7}}
        for stream in (1, 2):
            assert (await talk.ask("execute", stream_id=stream, **use))["result"]["rows"][0][0]["value"] == "7"
        pending = await talk.post("execute", stream_id=1, **use)
        assert await talk.ask("close_sql", sql_id=7) == {"type": "close_sql"}
        assert (await talk.answer(pending))["type"] == "execute"
        with pytest.raises(HranaProtocolError, match="not found"):
            await talk.post("execute", stream_id=1, **use)

    node.run(scenario())


def test_text_that_could_not_be_stored_fails_what_uses_it(node: Node) -> None:
    async def scenario() -> None:
        talk = await Talk(node).open(1)
        text = "x" * (limits.SQL_SIZE_BYTES_MAX + 1)
        assert await talk.ask("store_sql", sql_id=7, sql=text) == "SQL_STORE_TOO_LARGE"
        assert await talk.ask("describe", stream_id=1, sql_id=7) == "SQL_STORE_TOO_LARGE"
        assert await talk.ask("close_sql", sql_id=7) == {"type": "close_sql"}

    node.run(scenario())


def test_number_of_a_text_in_use_is_a_violation(node: Node) -> None:
    async def scenario() -> None:
        talk = await Talk(node).open()
        await talk.ask("store_sql", sql_id=7, sql="select 7")
        await talk.post("store_sql", sql_id=7, sql="select 8")

    with pytest.raises(HranaProtocolError, match="stored already"):
        node.run(scenario())


# -- cursors ----------------------------------------------------------------------------------------------------------


def test_cursor_gives_a_batch_piece_by_piece(node: Node) -> None:
    async def scenario() -> None:
        talk = await Talk(node).open(1)
        steps = batch("values(1), (2), (3)", "nope")
        numbers = [
            await talk.post("open_cursor", stream_id=1, cursor_id=9, batch=steps),
            await talk.post("fetch_cursor", cursor_id=9, max_count=3),
            await talk.post("fetch_cursor", cursor_id=9, max_count=100),
            await talk.post("close_cursor", cursor_id=9),
        ]
        opened, first, second, closed = [await talk.answer(number) for number in numbers]
        assert (opened, closed) == ({"type": "open_cursor"}, {"type": "close_cursor"})
        assert [entry["type"] for entry in first["entries"]] == ["step_begin", "row", "row"]
        assert not first["done"]
        assert [entry["type"] for entry in second["entries"]] == ["row", "step_end", "step_error"]
        assert second["done"]
        with pytest.raises(HranaProtocolError):
            await talk.post("fetch_cursor", cursor_id=9, max_count=1)

    node.run(scenario())


def test_cursor_that_could_not_be_opened(node: Node) -> None:
    async def scenario() -> None:
        talk = Talk(node, headers=[(b"authorization", b"Bearer reader")])
        await talk.hello(None)
        await talk.ask("open_stream", stream_id=1)
        assert await talk.ask("open_cursor", stream_id=1, cursor_id=9, batch=batch("delete from t")) == "FORBIDDEN"
        assert await talk.ask("fetch_cursor", cursor_id=9, max_count=1) == "CURSOR_NOT_OPEN"
        with pytest.raises(HranaProtocolError):
            await talk.post("open_cursor", stream_id=1, cursor_id=9, batch=batch())
        assert await talk.ask("close_cursor", cursor_id=9) == {"type": "close_cursor"}
        assert await talk.ask("close_cursor", cursor_id=9) == {"type": "close_cursor"}
        assert await talk.ask("open_cursor", stream_id=1, cursor_id=9, batch=batch()) == {"type": "open_cursor"}

    node.run(scenario())


def test_cursors_end_with_their_stream(node: Node) -> None:
    async def scenario() -> None:
        talk = await Talk(node).open(1)
        await talk.ask("open_cursor", stream_id=1, cursor_id=9, batch=batch("select 1"))
        await talk.ask("close_stream", stream_id=1)
        await talk.open(1)
        assert await talk.ask("open_cursor", stream_id=1, cursor_id=9, batch=batch()) == {"type": "open_cursor"}

    node.run(scenario())


def test_number_of_cursors_is_bounded(node: Node) -> None:
    async def scenario() -> None:
        talk = await Talk(node).open(1)
        for cursor in range(CURSORS_MAX):
            await talk.ask("open_cursor", stream_id=1, cursor_id=cursor, batch=batch())
        failed = await talk.ask("open_cursor", stream_id=1, cursor_id=CURSORS_MAX, batch=batch())
        assert failed == "CURSORS_TOO_MANY"
        with pytest.raises(HranaProtocolError, match="too many"):
            for cursor in range(CURSORS_MAX + 1, 3 * CURSORS_MAX):
                await talk.post("open_cursor", stream_id=1, cursor_id=cursor, batch=batch())

    node.run(scenario())


# -- bounds and ends --------------------------------------------------------------------------------------------------


def test_nothing_more_is_taken_while_too_much_waits(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ws_session, "REQUESTS_MAX", 3)

    async def scenario() -> None:
        talk = await Talk(node).open(1)
        talk.gate = asyncio.Event()
        for _ in range(2):
            await talk.post_sql(1, "select 1")
        third = asyncio.ensure_future(talk.post_sql(1, "select 1"))
        done, _ = await asyncio.wait([third], timeout=0.05)
        assert not done
        talk.gate.set()
        assert await talk.rows(await third) == [["1"]]

    node.run(scenario())


def test_long_messages_fill_it_too(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ws_session, "WAITING_BYTES_MAX", 1000)

    async def scenario() -> None:
        talk = await Talk(node).open(1)
        talk.gate = asyncio.Event()
        await talk.post_sql(1, "select 1")
        second = asyncio.ensure_future(talk.post_sql(1, "select '" + "x" * 1000 + "'"))
        done, _ = await asyncio.wait([second], timeout=0.05)
        assert not done
        talk.gate.set()
        await talk.rows(await second)

    node.run(scenario())


def test_answers_that_nobody_reads_are_few_but_transactions_end(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ws_session, "PARALLEL_MAX", 2)

    async def scenario() -> None:
        talk = await Talk(node).open(*range(8))
        await talk.sql(7, "begin immediate")
        talk.gate = asyncio.Event()
        numbers = [await talk.post_sql(stream, "select 1") for stream in range(7)]
        commit = await talk.post_sql(7, "commit")
        runs = len(node.store.runs)
        while talk.sending < 3:
            await asyncio.sleep(0)
        assert len(node.store.runs) == runs + 1
        for _ in range(20):
            await asyncio.sleep(0)
        assert talk.sending == 3
        talk.gate.set()
        for number in [*numbers, commit]:
            assert await talk.rows(number) in ([["1"]], [])

    node.run(scenario())


def test_end_of_the_connection_ends_everything(node: Node) -> None:
    async def scenario() -> None:
        talk = await Talk(node).open(1, 2, 3)
        await talk.sql(1, "begin immediate")
        await talk.sql(1, "delete from t")
        await talk.post_sql(2, ENDLESS)
        await talk.post("close_stream", stream_id=2)
        while not node.service.long_reads:
            await asyncio.sleep(0)
        await talk.session.close()
        assert not node.service.long_reads

    node.run(scenario())
    assert len(node.store.ended) == 1
    assert len(node.service._attached) == 0


def test_client_that_goes_while_an_answer_is_sent(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ws_session, "REQUESTS_MAX", 3)

    async def scenario() -> None:
        talk = await Talk(node).open(1)
        talk.send_error = ConnectionResetError()
        for _ in range(3):
            await talk.post_sql(1, "select 1")
        await talk.session.close()
        assert talk.bugs == []

    node.run(scenario())


def test_bug_is_told(node: Node) -> None:
    async def scenario() -> None:
        talk = await Talk(node).open(1)
        node.store.fail = ZeroDivisionError("oops")  # type: ignore[assignment]
        await talk.post_sql(1, "delete from t")
        await talk.until(lambda: talk.bugs)
        assert isinstance(talk.bugs[0], ZeroDivisionError)
        await talk.session.close()

    node.run(scenario())


def test_text_that_is_no_message(node: Node) -> None:
    with pytest.raises(Unreadable):
        node.run(Talk(node).session.take("{"))
