"""Whatever is sent to the SQL routes: an answer below 500, no line about a bug, and nothing left open.

Requests are drawn from a seed so that most of them fit, and then spoilt at a few places.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
from sql_world import HELLO, World

ROUTES = (
    "/v2/pipeline",
    "/v3/pipeline",
    "/v1/execute",
    "/v1/batch",
    "/v3/cursor",
    "/dev/data/v2/pipeline",
    "/v2",
    "/dev/",
)
UNDONE = frozenset({200, 400, 404, 405, 413})
"""What bad input may be answered with; 5xx never. Hrana 1 says 500 and 503 where a statement fails, as sqld does."""
SHORT, LONG = 120, 20_000


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("fuzz"), "create table t(a integer primary key, b)")
    yield world
    world.close()


TEXTS = (
    "select 1", "select ?", "insert into t(b) values(?)", "begin", "begin immediate", "commit", "rollback", "", ";",
    "x", "select 1; select 2", "savepoint s", "release s", "pragma foreign_keys = off", "pragma x", "select :a, @b",
    "\x00",
    "\ud800", "insert into t values(1, 1)", "begin readonly", "delete from t returning *", "values(1e999, x'00')",
    "begin; insert into t(b) values(1)", "select * from t", "pragma foreign_keys", "drop table if exists u",
    "create table u(x)", "select '\U0001f600'",
)  # fmt: skip
NUMBERS = (0, 1, 2, 3, -1, 2**31, 2**32, 2**53, 2**63, 2**64, -(2**63) - 1, 10**30)
JUNK: tuple[object, ...] = (
    None, True, 0, -1, 2**63, 10**30, 1.5, 1e308, float("inf"), float("nan"), "", "x", "\x00", "\ud800",
    "\U0001f600", [], {}, [[]], [None], {"type": None}, {"type": "ok", "step": 0}, {"type": "null"},
    "A" * 64, "1", {"": ""}, [1] * 100,
)  # fmt: skip


class Maker:
    """Makes requests from a seed."""

    def __init__(self, seed: object) -> None:
        self.chance = random.Random(str(seed))
        self.stored: list[int] = []
        self.streams = [1]
        self.cursors: list[int] = []

    def value(self) -> dict[str, Any]:
        return self.chance.choice(
            (
                {"type": "null"},
                {"type": "integer", "value": str(self.chance.choice(NUMBERS[:8]))},
                {"type": "float", "value": self.chance.choice((0, -0.0, 1.5, 1e308, None))},
                {"type": "text", "value": self.chance.choice(("", "x", "\x00", "\U0001f600"))},
                {"type": "blob", "base64": self.chance.choice(("", "AA", "AA==", "/+8"))},
            )
        )

    def statement(self) -> dict[str, Any]:
        made: dict[str, Any] = {"sql": self.chance.choice(TEXTS)}
        if self.stored and self.chance.random() < 0.2:
            made = {"sql_id": self.chance.choice(self.stored)}
        if "?" in made.get("sql", "") or self.chance.random() < 0.1:
            made["args"] = [self.value() for _ in range(self.chance.choice((1, 1, 1, 0, 2)))]
        if ":a" in made.get("sql", "") or self.chance.random() < 0.05:
            made["named_args"] = [
                {"name": name, "value": self.value()} for name in self.chance.choice((("a", "@b"), ("a",)))
            ]
        if self.chance.random() < 0.1:
            made["want_rows"] = self.chance.choice((True, False, None))
        return made

    def condition(self, step: int, depth: int = 0) -> dict[str, Any]:
        kind = self.chance.choice(("ok", "error", "not", "and", "or", "is_autocommit") if depth < 5 else ("ok",))
        if kind in {"ok", "error"}:
            return {"type": kind, "step": self.chance.randrange(max(1, step))}
        if kind == "not":
            return {"type": kind, "cond": self.condition(step, depth + 1)}
        if kind in {"and", "or"}:
            return {"type": kind, "conds": [self.condition(step, depth + 1) for _ in range(self.chance.randrange(3))]}
        return {"type": kind}

    def batch(self) -> dict[str, Any]:
        steps: list[dict[str, Any]] = [{"stmt": self.statement()} for _ in range(self.chance.randrange(5))]
        for number, step in enumerate(steps[1:], start=1):
            if self.chance.random() < 0.6:
                step["condition"] = self.condition(number)
        return {"steps": steps}

    def request(self) -> dict[str, Any]:
        kind = self.chance.choice(
            ("execute",) * 5 + ("batch", "sequence", "describe", "store_sql", "close_sql", "get_autocommit")
        )
        fields = {
            "execute": lambda: {"stmt": self.statement()},
            "batch": lambda: {"batch": self.batch()},
            "sequence": lambda: {"sql": self.chance.choice(TEXTS)},
            "describe": lambda: {"sql": self.chance.choice(TEXTS)},
            "store_sql": lambda: {"sql_id": _fresh(self.stored), "sql": self.chance.choice(TEXTS)},
            "close_sql": lambda: {"sql_id": self.stored.pop() if self.stored else 9},
        }
        return {"type": kind, **fields.get(kind, dict)()}

    def requests(self) -> list[dict[str, Any]]:
        return [self.request() for _ in range(self.chance.randrange(5))] + [{"type": "close"}] * (
            self.chance.random() < 0.2
        )

    def spoil(self, tree: object) -> object:
        """Put junk at some places of a tree, leave something out, or say something twice."""
        for _ in range(self.chance.choice((0, 0, 0, 1, 2))):
            places: list[tuple[Any, Any]] = []
            _collect(tree, places)
            if not places:
                return copy.deepcopy(self.chance.choice(JUNK))
            holder, key = self.chance.choice(places)
            if self.chance.random() < 0.2:
                del holder[key]
            elif isinstance(holder, list) and self.chance.random() < 0.2:
                holder.append(copy.deepcopy(holder[key]))
            else:
                holder[key] = copy.deepcopy(self.chance.choice(JUNK))
        return tree


def _fresh(numbers: list[int]) -> int:
    numbers.append(max(numbers, default=0) + 1)
    return numbers[-1]


def _collect(tree: object, places: list[tuple[Any, Any]]) -> None:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, inner in items:
        if len(places) < 10_000:
            places.append((tree, key))
            _collect(inner, places)


def encoded(value: object) -> bytes:
    return json.dumps(value).encode()


def check(world: World) -> None:
    assert world.is_at_rest()
    assert not [line for line in world.lines if "Traceback" in line or '"level":"error"' in line]


def end(world: World, body: bytes) -> None:
    """Close what an answer names, as its client would, and look whether anything is left."""
    try:
        baton = json.loads(body).get("baton")
    except (ValueError, AttributeError):
        baton = None
    if baton is not None:
        assert world.pipeline({"type": "close"}, baton=baton).status == 200
    check(world)


def try_pipelines(world: World, seed: int, count: int) -> set[int]:
    """Send pipelines, each on the stream of the one before as long as there is one; gives the statuses."""
    maker, seen = Maker(seed), set()
    baton: object = None
    for number in range(count):
        requests = json.loads(json.dumps(maker.requests()))
        pipeline = maker.spoil({"baton": baton, "requests": requests})
        said = world.post(encoded(pipeline), maker.chance.choice(ROUTES[:2]))
        assert said.status in UNDONE, (seed, number, said.body)
        seen.add(said.status)
        was_used = said.status == 200 and isinstance(pipeline, dict) and pipeline.get("baton") == baton
        if isinstance(baton, str) and not was_used:
            world.pipeline({"type": "close"}, baton=baton)  # its stream may be there still
        baton = said.json["baton"] if said.status == 200 else None
        if baton is None:
            maker.stored.clear()
            check(world)
    if isinstance(baton, str):
        world.pipeline({"type": "close"}, baton=baton)
    check(world)
    return seen


@pytest.mark.parametrize("seed", range(3))
def test_pipelines(world: World, seed: int) -> None:
    assert try_pipelines(world, seed, SHORT) == {200, 400}


@pytest.mark.full
@pytest.mark.parametrize("seed", range(100, 104))
def test_more_pipelines(world: World, seed: int) -> None:
    assert try_pipelines(world, seed, LONG) == {200, 400}


@pytest.mark.parametrize("kind", ["execute", "batch"])
def test_requests_of_the_first_version(world: World, kind: str) -> None:
    maker = Maker(kind)
    for number in range(SHORT):
        body = maker.spoil({"stmt": maker.statement(), "batch": maker.batch()})
        said = world.post(encoded(body), f"/v1/{kind}")
        assert said.status in UNDONE | {500, 501, 503}, (number, said.body)
        if said.status == 500:
            assert json.loads(said.body)["code"].startswith("SQLITE_")
        end(world, said.body)


def spoilt(chance: random.Random) -> bytes:
    """Give a pipeline with a few bytes changed, left out or repeated, cut off, or nested beyond sense."""
    body = bytearray(
        encoded(
            {"baton": None, "requests": [{"type": "execute", "stmt": {"sql": "select ?", "args": [{"type": "null"}]}}]}
        )
    )
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(body))
        how = chance.randrange(4)
        if how == 0:
            body[at] = chance.randrange(256)
        elif how == 1:
            del body[at : at + chance.randint(1, 8)]
        elif how == 2:
            body[at:at] = body[at : at + chance.randint(1, 40)]
        else:
            body = body[: max(1, at)]
    return bytes(body)


@pytest.mark.parametrize("path", ROUTES)
def test_spoilt_bytes(world: World, path: str) -> None:
    chance = random.Random(path)
    for number in range(60):
        body = spoilt(chance)
        said = world.post(body, path)
        assert said.status in UNDONE, (number, body)
        end(world, said.body)


DEEP = 100_000
STEP = b'{"requests":[{"type":"batch","batch":{"steps":[{"stmt":{"sql":"x"},"condition":'
STATEMENT = b'{"requests":[{"type":"execute","stmt":{"sql":'
MUCH = {
    "lists": b"[" * DEEP,
    "requests": b'{"requests":' + b"[" * DEEP,
    "not": STEP + b'{"type":"not","cond":' * DEEP,
    "and": STEP + b'{"type":"and","conds":[' * 20_000 + b'{"type":"is_autocommit"}' + b"]}" * 20_000 + b"}]}}]}",
    "baton": b'{"baton":"' + b"A" * 1_000_000 + b'","requests":[]}',
    "index": STATEMENT + b'"select 1","replication_index":' + b"9" * 5000 + b"}}]}",
    "integer": STATEMENT + b'"select ?","args":[{"type":"integer","value":"' + b"9" * 5000 + b'"}]}}]}',
    "number": b'{"requests":[{"type":"store_sql","sql_id":' + b"9" * 400 + b',"sql":""}]}',
    "utf-16": b'\xff\xfe{"requests":[]}',
    "surrogate": STATEMENT + b'"\\ud800"}}]}',
}


@pytest.mark.parametrize("body", MUCH.values(), ids=MUCH)
def test_much_of_one_thing(world: World, body: bytes) -> None:
    for path in ("/v2/pipeline", "/v3/pipeline", "/v1/batch"):
        said = world.post(body, path)
        assert said.status in UNDONE
        assert len(said.body) < 1000
        end(world, said.body)
    _, code = world.talk(json.dumps(HELLO), body.decode("latin-1"), answers=2)
    assert code in {1003, 1007, 1008}
    assert world.is_at_rest()


@pytest.mark.parametrize("seed", range(2))
def test_cursors(world: World, seed: int) -> None:
    maker = Maker(f"cursor {seed}")
    statuses = set()
    for number in range(SHORT):
        body = maker.spoil({"batch": maker.batch(), "baton": None})
        said = world.post(encoded(body), "/v3/cursor")
        assert said.status in UNDONE, (number, said.body)
        statuses.add(said.status)
        end(world, said.body.partition(b"\n")[0])
    assert statuses == {200, 400}


def field(number: int, content: bytes | int) -> bytes:
    """Encode a field of protocol buffers; numbers and lengths stay below 128."""
    if isinstance(content, int):
        return bytes([number << 3, content])
    return bytes([number << 3 | 2, len(content)]) + content


def in_protobuf(chance: random.Random) -> tuple[bytes, bytes]:
    """Make a pipeline and a cursor's body of a statement, then spoil some bytes of them."""
    text = chance.choice([each for each in TEXTS if len(each) < 60 and "\ud800" not in each]).encode()
    statement = field(1, text) + field(3, field(1, b"")) * chance.randrange(3) + field(5, chance.randrange(2))
    bodies = field(2, field(2, field(1, statement))), field(2, field(1, field(2, statement)))
    return tuple(_with_noise(bytearray(body), chance) for body in bodies)  # type: ignore[return-value]


def _with_noise(body: bytearray, chance: random.Random) -> bytes:
    for _ in range(chance.choice((0, 0, 1, 2))):
        at = chance.randrange(len(body))
        body[at : at + chance.randrange(3)] = chance.randbytes(chance.randrange(3))
    return bytes(body)


def test_protocol_buffers(world: World) -> None:
    chance = random.Random("protocol buffers")
    seen = set()
    for number in range(SHORT):
        for path, body in zip(("pipeline", "cursor"), in_protobuf(chance), strict=True):
            said = world.post(body, f"/v3-protobuf/{path}")
            assert said.status in UNDONE, (number, path, body, said.body)
            seen.add((path, said.status))
            for stream in list(world.streams._streams.values()):  # its baton is in the answer, unread here
                world.streams.close(stream)
                world.service._runs.release(stream)
            check(world)
    assert {("pipeline", 200), ("pipeline", 400), ("cursor", 200), ("cursor", 400)} <= seen


def test_frames_of_protocol_buffers(world: World) -> None:
    chance = random.Random("frames")
    hello = field(1, b"")
    opened = field(2, field(1, 1) + field(2, field(1, 1)))
    for _ in range(SHORT):
        statement = field(1, chance.choice(TEXTS[:12]).encode())
        asked = field(2, field(1, 2) + field(4, field(1, 1) + field(2, statement)))
        frames = [hello, opened, _with_noise(bytearray(asked), chance), _with_noise(bytearray(opened), chance)]
        _, code = world.talk(*frames, answers=4, protocol="hrana3-protobuf")
        assert code in {None, 1007, 1008}
        check(world)


def of_a_stream(maker: Maker) -> dict[str, Any]:
    """Make a request of a WebSocket."""
    pick = maker.chance.choice
    kind = pick(("",) * 16 + ("open_stream", "close_stream", "open_cursor", "fetch_cursor", "close_cursor"))
    if kind == "open_stream":
        return {"type": kind, "stream_id": _fresh(maker.streams)}
    if kind == "close_stream" and len(maker.streams) > 1:
        return {"type": kind, "stream_id": maker.streams.pop()}
    stream = {"stream_id": pick(maker.streams)}
    if kind == "open_cursor":
        return {"type": kind, **stream, "cursor_id": _fresh(maker.cursors), "batch": maker.batch()}
    if kind == "fetch_cursor" and maker.cursors:
        return {"type": kind, "cursor_id": pick(maker.cursors), "max_count": pick((0, 1, 100, 2**31))}
    if kind == "close_cursor" and maker.cursors:
        return {"type": kind, "cursor_id": maker.cursors.pop()}
    request = maker.request()
    return request if request["type"] in {"store_sql", "close_sql"} else {**request, **stream}


def try_conversation(world: World, seed: str) -> set[object]:
    maker = Maker(seed)
    frames: list[object] = [
        HELLO,
        {"type": "request", "request_id": 0, "request": {"type": "open_stream", "stream_id": 1}},
    ]
    for number in range(1, maker.chance.randrange(2, 12)):
        request = json.loads(json.dumps(of_a_stream(maker)))
        frame = {"type": "request", "request_id": number, "request": request}
        frames.append(maker.spoil(frame) if maker.chance.random() < 0.1 else frame)
    said, code = world.talk(
        *map(json.dumps, frames),
        answers=len(frames),
        protocol=maker.chance.choice(("hrana1", "hrana3", "hrana3", "hrana3")),
    )
    assert code in {None, 1007, 1008}, seed
    assert {each["type"] for each in said} <= {"hello_ok", "response_ok", "response_error"}, seed
    codes = {each["error"]["code"] for each in said if each["type"] == "response_error"}
    assert "INTERNAL" not in codes
    check(world)
    return {code, *codes}


@pytest.mark.parametrize("seed", range(3))
def test_conversations(world: World, seed: int) -> None:
    seen: set[object] = set()
    for number in range(SHORT // 2):
        seen |= try_conversation(world, f"{seed}-{number}")
    assert {None, 1007, "SQLITE_ERROR", "ARGS_INVALID"} <= seen


@pytest.mark.full
@pytest.mark.parametrize("seed", range(100, 104))
def test_more_conversations(world: World, seed: int) -> None:
    for number in range(LONG // 5):
        try_conversation(world, f"{seed}-{number}")
