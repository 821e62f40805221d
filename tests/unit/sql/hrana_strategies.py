"""Requests of Hrana as JSON values, made up by hypothesis: what both encodings must read alike."""

from __future__ import annotations

import base64
from typing import Any

from hypothesis import strategies as st

INT32 = st.integers(-(1 << 31), (1 << 31) - 1)
INDEX = st.integers(0, (1 << 64) - 1)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)

VALUES = st.one_of(
    st.just({"type": "null"}),
    st.integers(-(1 << 63), (1 << 63) - 1).map(lambda number: {"type": "integer", "value": str(number)}),
    st.floats(allow_nan=False, allow_infinity=False).map(lambda number: {"type": "float", "value": number}),
    TEXTS.map(lambda text: {"type": "text", "value": text}),
    st.binary(max_size=20).map(lambda data: {"type": "blob", "base64": base64.b64encode(data).decode().rstrip("=")}),
)
NAMED = st.fixed_dictionaries({"name": TEXTS, "value": VALUES})


def _optional(**fields: Any) -> Any:
    return st.fixed_dictionaries({}, optional=fields)


def _joined(*parts: Any) -> Any:
    return st.tuples(*parts).map(lambda found: {name: value for part in found for name, value in part.items()})


SQL = st.one_of(st.fixed_dictionaries({"sql": TEXTS}), st.fixed_dictionaries({"sql_id": INT32}))
STATEMENTS = _joined(
    SQL,
    _optional(
        args=st.lists(VALUES, max_size=3),
        named_args=st.lists(NAMED, max_size=3),
        want_rows=st.booleans(),
        replication_index=INDEX,
    ),
)
CONDITIONS = st.recursive(
    st.one_of(
        st.builds(lambda kind, step: {"type": kind, "step": step}, st.sampled_from(["ok", "error"]), st.integers(0, 3)),
        st.just({"type": "is_autocommit"}),
    ),
    lambda inner: st.one_of(
        inner.map(lambda cond: {"type": "not", "cond": cond}),
        st.lists(inner, max_size=3).map(lambda conds: {"type": "and", "conds": conds}),
        st.lists(inner, max_size=3).map(lambda conds: {"type": "or", "conds": conds}),
    ),
    max_leaves=5,
)
STEPS = _joined(st.fixed_dictionaries({"stmt": STATEMENTS}), _optional(condition=CONDITIONS))
BATCHES = _joined(st.fixed_dictionaries({"steps": st.lists(STEPS, max_size=3)}), _optional(replication_index=INDEX))


def _request(kind: str, *parts: Any) -> Any:
    return _joined(st.just({"type": kind}), *parts)


_STATEMENT = st.fixed_dictionaries({"stmt": STATEMENTS})
_BATCH = st.fixed_dictionaries({"batch": BATCHES})
_STORED = st.fixed_dictionaries({"sql_id": INT32, "sql": TEXTS})
_NUMBER = st.fixed_dictionaries({"sql_id": INT32})
REQUESTS = st.one_of(
    _request("close"),
    _request("execute", _STATEMENT),
    _request("batch", _BATCH),
    _request("sequence", SQL),
    _request("describe", SQL),
    _request("store_sql", _STORED),
    _request("close_sql", _NUMBER),
    _request("get_autocommit"),
)
PIPELINES = _joined(
    st.fixed_dictionaries({"requests": st.lists(REQUESTS, max_size=4)}), _optional(baton=st.none() | TEXTS)
)
CURSORS = _joined(_BATCH, _optional(baton=st.none() | TEXTS))

_STREAM = st.fixed_dictionaries({"stream_id": INT32})
_CURSOR = st.fixed_dictionaries({"cursor_id": INT32})
WS_REQUESTS = st.one_of(
    _request("open_stream", _STREAM),
    _request("close_stream", _STREAM),
    _request("execute", _STREAM, _STATEMENT),
    _request("batch", _STREAM, _BATCH),
    _request("open_cursor", _STREAM, _CURSOR, _BATCH),
    _request("close_cursor", _CURSOR),
    _request("fetch_cursor", _CURSOR, st.fixed_dictionaries({"max_count": st.integers(0, (1 << 32) - 1)})),
    _request("sequence", _STREAM, SQL),
    _request("describe", _STREAM, SQL),
    _request("store_sql", _STORED),
    _request("close_sql", _NUMBER),
    _request("get_autocommit", _STREAM),
)
CLIENT_MESSAGES = st.one_of(
    st.fixed_dictionaries({"type": st.just("hello")}, optional={"jwt": st.none() | TEXTS}),
    st.fixed_dictionaries({"type": st.just("request"), "request_id": INT32, "request": WS_REQUESTS}),
)
