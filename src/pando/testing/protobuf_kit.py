"""Hrana 3 in protocol buffers by a table of its messages: written for the tests, apart from what they test.

Messages are dictionaries, by the names of fields. What JSON tells with `type` is a dictionary with one entry here.
Not here: what it tests (`pando.sql.protobuf_wire` and what is built on that).
"""

from __future__ import annotations

import base64
import struct
from typing import Any

Fields = dict[int, tuple[str, str]]

VALUE: Fields = {
    1: ("null", "Empty"),
    2: ("integer", "sint64"),
    3: ("float", "double"),
    4: ("text", "string"),
    5: ("blob", "bytes"),
}
STREAM_REQUEST: Fields = {
    1: ("close", "Empty"),
    2: ("execute", "Execute"),
    3: ("batch", "BatchRequest"),
    4: ("sequence", "Text"),
    5: ("describe", "Text"),
    6: ("store_sql", "StoreSql"),
    7: ("close_sql", "Number"),
    8: ("get_autocommit", "Empty"),
}
SCHEMA: dict[str, Fields] = {
    "Empty": {},
    "Error": {1: ("message", "string"), 2: ("code", "string")},
    "Value": VALUE,
    "NamedArg": {1: ("name", "string"), 2: ("value", "Value")},
    "Stmt": {
        1: ("sql", "string"),
        2: ("sql_id", "int32"),
        3: ("args", "*Value"),
        4: ("named_args", "*NamedArg"),
        5: ("want_rows", "bool"),
        6: ("replication_index", "uint64"),
    },
    "Conditions": {1: ("conds", "*Condition")},
    "Condition": {
        1: ("ok", "uint32"),
        2: ("error", "uint32"),
        3: ("not", "Condition"),
        4: ("and", "Conditions"),
        5: ("or", "Conditions"),
        6: ("is_autocommit", "Empty"),
    },
    "Step": {1: ("condition", "Condition"), 2: ("stmt", "Stmt")},
    "Batch": {1: ("steps", "*Step"), 2: ("replication_index", "uint64")},
    "Execute": {1: ("stmt", "Stmt")},
    "BatchRequest": {1: ("batch", "Batch")},
    "Text": {1: ("sql", "string"), 2: ("sql_id", "int32")},
    "StoreSql": {1: ("sql_id", "int32"), 2: ("sql", "string")},
    "Number": {1: ("sql_id", "int32")},
    "StreamRequest": STREAM_REQUEST,
    "Pipeline": {1: ("baton", "string"), 2: ("requests", "*StreamRequest")},
    "CursorRequest": {1: ("baton", "string"), 2: ("batch", "Batch")},
    # what is answered
    "Col": {1: ("name", "string"), 2: ("decltype", "string")},
    "Row": {1: ("values", "*Value")},
    "StmtResult": {
        1: ("cols", "*Col"),
        2: ("rows", "*Row"),
        3: ("affected_row_count", "uint64"),
        4: ("last_insert_rowid", "sint64"),
        5: ("replication_index", "uint64"),
        6: ("rows_read", "uint64"),
        7: ("rows_written", "uint64"),
        8: ("query_duration_ms", "double"),
    },
    "ResultOfStep": {1: ("step", "uint32"), 2: ("result", "StmtResult")},
    "ErrorOfStep": {1: ("step", "uint32"), 2: ("error", "Error")},
    "BatchResult": {1: ("step_results", "*ResultOfStep"), 2: ("step_errors", "*ErrorOfStep")},
    "Param": {1: ("name", "string")},
    "DescribeResult": {
        1: ("params", "*Param"),
        2: ("cols", "*Col"),
        3: ("is_explain", "bool"),
        4: ("is_readonly", "bool"),
    },
    "ExecuteResponse": {1: ("result", "StmtResult")},
    "BatchResponse": {1: ("result", "BatchResult")},
    "DescribeResponse": {1: ("result", "DescribeResult")},
    "AutocommitResponse": {1: ("is_autocommit", "bool")},
    "StreamResponse": {
        1: ("close", "Empty"),
        2: ("execute", "ExecuteResponse"),
        3: ("batch", "BatchResponse"),
        4: ("sequence", "Empty"),
        5: ("describe", "DescribeResponse"),
        6: ("store_sql", "Empty"),
        7: ("close_sql", "Empty"),
        8: ("get_autocommit", "AutocommitResponse"),
    },
    "StreamResult": {1: ("ok", "StreamResponse"), 2: ("error", "Error")},
    "PipelineAnswer": {1: ("baton", "string"), 2: ("base_url", "string"), 3: ("results", "*StreamResult")},
    "CursorHead": {1: ("baton", "string"), 2: ("base_url", "string")},
    "StepBegin": {1: ("step", "uint32"), 2: ("cols", "*Col")},
    "StepEnd": {1: ("affected_row_count", "uint32"), 2: ("last_insert_rowid", "sint64")},
    "CursorEntry": {
        1: ("step_begin", "StepBegin"),
        2: ("step_end", "StepEnd"),
        3: ("step_error", "ErrorOfStep"),
        4: ("row", "Row"),
        5: ("error", "Error"),
        6: ("replication_index", "uint64"),
    },
    # messages of a WebSocket
    "Hello": {1: ("jwt", "string")},
    "ClientMessage": {1: ("hello", "Hello"), 2: ("request", "WsRequest")},
    "Stream": {1: ("stream_id", "int32")},
    "Cursor": {1: ("cursor_id", "int32")},
    "WsExecute": {1: ("stream_id", "int32"), 2: ("stmt", "Stmt")},
    "WsBatch": {1: ("stream_id", "int32"), 2: ("batch", "Batch")},
    "OpenCursor": {1: ("stream_id", "int32"), 2: ("cursor_id", "int32"), 3: ("batch", "Batch")},
    "FetchCursor": {1: ("cursor_id", "int32"), 2: ("max_count", "uint32")},
    "WsText": {1: ("stream_id", "int32"), 2: ("sql", "string"), 3: ("sql_id", "int32")},
    "WsRequest": {
        1: ("request_id", "int32"),
        2: ("open_stream", "Stream"),
        3: ("close_stream", "Stream"),
        4: ("execute", "WsExecute"),
        5: ("batch", "WsBatch"),
        6: ("open_cursor", "OpenCursor"),
        7: ("close_cursor", "Cursor"),
        8: ("fetch_cursor", "FetchCursor"),
        9: ("sequence", "WsText"),
        10: ("describe", "WsText"),
        11: ("store_sql", "StoreSql"),
        12: ("close_sql", "Number"),
        13: ("get_autocommit", "Stream"),
    },
    "Fetched": {1: ("entries", "*CursorEntry"), 2: ("done", "bool")},
    "ResponseOk": {
        1: ("request_id", "int32"),
        2: ("open_stream", "Empty"),
        3: ("close_stream", "Empty"),
        4: ("execute", "ExecuteResponse"),
        5: ("batch", "BatchResponse"),
        6: ("open_cursor", "Empty"),
        7: ("close_cursor", "Empty"),
        8: ("fetch_cursor", "Fetched"),
        9: ("sequence", "Empty"),
        10: ("describe", "DescribeResponse"),
        11: ("store_sql", "Empty"),
        12: ("close_sql", "Empty"),
        13: ("get_autocommit", "AutocommitResponse"),
    },
    "HelloError": {1: ("error", "Error")},
    "ResponseError": {1: ("request_id", "int32"), 2: ("error", "Error")},
    "ServerMessage": {
        1: ("hello_ok", "Empty"),
        2: ("hello_error", "HelloError"),
        3: ("response_ok", "ResponseOk"),
        4: ("response_error", "ResponseError"),
    },
}
_WIRE_TYPES = {"double": 1}
_VARINTS = {"uint32", "uint64", "int32", "sint64", "bool"}


# -- bytes ------------------------------------------------------------------------------------------------------------


def number(value: int) -> bytes:
    """Write an unsigned integer, a negative one in two's complement."""
    value %= 1 << 64
    groups = [value >> shift & 0x7F for shift in range(0, 70, 7)]
    while len(groups) > 1 and groups[-1] == 0:
        groups.pop()
    return bytes([*(group | 0x80 for group in groups[:-1]), groups[-1]])


def write(kind: str, message: dict[str, Any]) -> bytes:
    """Write a message of a kind in SCHEMA."""
    numbers = {name: (field, type_) for field, (name, type_) in SCHEMA[kind].items()}
    written = b""
    for name, value in message.items():
        field, type_ = numbers[name]
        for each in value if type_.startswith("*") else [value]:
            written += _write_field(field, type_.lstrip("*"), each)
    return written


def _write_field(field: int, type_: str, value: Any) -> bytes:  # noqa: ANN401 - as the type says
    if type_ in _VARINTS:
        plain = (value << 1) ^ (value >> 63) if type_ == "sint64" else int(value)
        return number(field << 3) + number(plain)
    if type_ == "double":
        return number(field << 3 | 1) + struct.pack("<d", value)
    data = value if type_ == "bytes" else value.encode() if type_ == "string" else write(type_, value)
    return number(field << 3 | 2) + number(len(data)) + data


def read(kind: str, data: bytes) -> dict[str, Any]:
    """Read a message of a kind in SCHEMA; fails for fields that are not there."""
    message: dict[str, Any] = {name: [] for name, type_ in SCHEMA[kind].values() if type_.startswith("*")}
    at = 0
    while at < len(data):
        key, at = _number(data, at)
        name, type_ = SCHEMA[kind][key >> 3]
        assert key & 7 == (0 if type_ in _VARINTS else _WIRE_TYPES.get(type_, 2))
        value, at = _read_value(type_.lstrip("*"), data, at)
        if type_.startswith("*"):
            message[name].append(value)
        else:
            message[name] = value
    return message


def _read_value(type_: str, data: bytes, at: int) -> tuple[Any, int]:
    if type_ in _VARINTS:
        plain, at = _number(data, at)
        if type_ == "bool":
            return bool(plain), at
        if type_ == "sint64":
            return (plain >> 1) ^ -(plain & 1), at
        return (plain - (1 << 64) if type_ == "int32" and plain >> 63 else plain), at
    if type_ == "double":
        return struct.unpack_from("<d", data, at)[0], at + 8
    size, at = _number(data, at)
    held = data[at : at + size]
    assert len(held) == size
    return (held if type_ == "bytes" else held.decode() if type_ == "string" else read(type_, held)), at + size


def _number(data: bytes, at: int) -> tuple[int, int]:
    found = shift = 0
    while True:
        byte = data[at]
        at, found, shift = at + 1, found | (byte & 0x7F) << shift, shift + 7
        if byte < 0x80:
            return found, at


def read_prefixed(data: bytes) -> list[bytes]:
    """Cut a stream of messages with their lengths in front."""
    found, at = [], 0
    while at < len(data):
        size, at = _number(data, at)
        found.append(data[at : at + size])
        at += size
    return found


# -- JSON to messages -------------------------------------------------------------------------------------------------


def value_of(json: dict[str, Any]) -> dict[str, Any]:
    """Turn a value."""
    kind = json["type"]
    if kind == "blob":
        text = json["base64"]
        return {"blob": base64.b64decode(text + "=" * (-len(text) % 4))}
    return {kind: {} if kind == "null" else int(json["value"]) if kind == "integer" else json["value"]}


def statement_of(json: dict[str, Any]) -> dict[str, Any]:
    """Turn a statement."""
    made = {name: value for name, value in json.items() if value is not None}
    if "args" in made:
        made["args"] = [value_of(each) for each in made["args"]]
    if "named_args" in made:
        made["named_args"] = [{"name": each["name"], "value": value_of(each["value"])} for each in made["named_args"]]
    if "replication_index" in made:
        made["replication_index"] = int(made["replication_index"])
    return made


def condition_of(json: dict[str, Any]) -> dict[str, Any]:
    """Turn a condition."""
    kind = json["type"]
    if kind in ("ok", "error"):
        return {kind: json["step"]}
    if kind == "not":
        return {kind: condition_of(json["cond"])}
    return {kind: {} if kind == "is_autocommit" else {"conds": [condition_of(each) for each in json["conds"]]}}


def batch_of(json: dict[str, Any]) -> dict[str, Any]:
    """Turn a batch."""
    steps = []
    for step in json["steps"]:
        made = {"stmt": statement_of(step["stmt"])}
        if step.get("condition") is not None:
            made["condition"] = condition_of(step["condition"])
        steps.append(made)
    index = json.get("replication_index")
    return {"steps": steps} | ({} if index is None else {"replication_index": int(index)})


def request_of(json: dict[str, Any]) -> dict[str, Any]:
    """Turn a request of a pipeline or of a WebSocket."""
    made = {name: value for name, value in json.items() if name != "type" and value is not None}
    if "stmt" in made:
        made["stmt"] = statement_of(made["stmt"])
    if "batch" in made:
        made["batch"] = batch_of(made["batch"])
    return {json["type"]: made}


def pipeline_bytes(json: dict[str, Any]) -> bytes:
    """Write the body of a pipeline."""
    baton = {} if json.get("baton") is None else {"baton": json["baton"]}
    return write("Pipeline", baton | {"requests": [request_of(each) for each in json["requests"]]})


def cursor_bytes(json: dict[str, Any]) -> bytes:
    """Write the body of a request for a cursor."""
    baton = {} if json.get("baton") is None else {"baton": json["baton"]}
    return write("CursorRequest", baton | {"batch": batch_of(json["batch"])})


def client_message_bytes(json: dict[str, Any]) -> bytes:
    """Write a message of a WebSocket."""
    if json["type"] == "hello":
        return write("ClientMessage", {"hello": {} if json.get("jwt") is None else {"jwt": json["jwt"]}})
    return write("ClientMessage", {"request": {"request_id": json["request_id"], **request_of(json["request"])}})


# -- messages to JSON -------------------------------------------------------------------------------------------------


def json_value(value: dict[str, Any]) -> dict[str, Any]:
    """Turn a value."""
    ((kind, held),) = value.items()
    if kind == "null":
        return {"type": "null"}
    if kind == "blob":
        return {"type": "blob", "base64": base64.b64encode(held).decode().rstrip("=")}
    return {"type": kind, "value": str(held) if kind == "integer" else held}


def json_column(column: dict[str, Any]) -> dict[str, Any]:
    """Turn a column."""
    return {"name": column.get("name"), "decltype": column.get("decltype")}


def json_rows(result: dict[str, Any]) -> dict[str, Any]:
    """Turn the result of a statement."""
    texts = {name: result.get(name) for name in ("last_insert_rowid", "replication_index")}
    return {
        "cols": [json_column(each) for each in result["cols"]],
        "rows": [[json_value(value) for value in row["values"]] for row in result["rows"]],
        **{name: None if text is None else str(text) for name, text in texts.items()},
        **{name: result.get(name, 0) for name in ("affected_row_count", "rows_read", "rows_written")},
        "query_duration_ms": result.get("query_duration_ms", 0.0),
    }


def json_response(response: dict[str, Any], steps: int = 0) -> dict[str, Any]:
    """Turn a response; `steps` of the batch that it answers are not told."""
    ((kind, held),) = response.items()
    if kind == "execute":
        return {"type": kind, "result": json_rows(held["result"])}
    if kind == "batch":
        results: list[Any] = [None] * steps
        errors: list[Any] = [None] * steps
        for each in held["result"]["step_results"]:
            results[each.get("step", 0)] = json_rows(each["result"])
        for each in held["result"]["step_errors"]:
            errors[each.get("step", 0)] = each["error"]
        return {"type": kind, "result": {"step_results": results, "step_errors": errors}}
    if kind == "describe":
        result = held["result"]
        flags = {name: result.get(name, False) for name in ("is_explain", "is_readonly")}
        params = [{"name": each.get("name")} for each in result["params"]]
        return {"type": kind, "result": {"params": params, "cols": [json_column(c) for c in result["cols"]], **flags}}
    return {"type": kind, **({"is_autocommit": held.get("is_autocommit", False)} if kind == "get_autocommit" else {})}


def json_entry(entry: dict[str, Any]) -> dict[str, Any]:
    """Turn an entry of a cursor."""
    ((kind, held),) = entry.items()
    if kind == "row":
        return {"type": kind, "row": [json_value(value) for value in held["values"]]}
    if kind == "step_begin":
        return {"type": kind, "step": held.get("step", 0), "cols": [json_column(each) for each in held["cols"]]}
    if kind == "step_end":
        rowid = held.get("last_insert_rowid")
        count = held.get("affected_row_count", 0)
        return {"type": kind, "affected_row_count": count, "last_insert_rowid": None if rowid is None else str(rowid)}
    if kind == "step_error":
        return {"type": kind, "step": held.get("step", 0), "error": held["error"]}
    return {"type": kind, kind: str(held) if kind == "replication_index" else held}
