r"""Bytes of event streams: server-sent events as PocketBase writes them, and lines of the plain feed.

    id:<id> LF event:<name> LF data:<json> LF LF        no space after a colon

The plain feed's events have no name, so that `EventSource.onmessage` gets them; their id is the cursor to go on from.
Its JSON, one line each in NDJSON:

    {"cursor":7,"time":"2026-01-31 12:00:00.000Z","table":"posts","operation":"update","key":3,"old":{...},"new":{...}}

Rows are by column name as the feed holds them: blobs as {"base64":"..."}, infinite numbers as {"real":"inf"}. Pure. Not
here: HTTP headers, who gets what.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import msgspec

from pando.errors import invariant
from pando.records.realtime.changes import Change, Cursor
from pando.records.realtime.client_ids import event_id

SSE_HEADERS: Final = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
)
COMMENT: Final = b":\n\n"
"""Keeps a quiet stream of the plain feed open; nobody's event."""
EMPTY_LINE: Final = b"\n"
"""The same in NDJSON: readers skip empty lines."""


class _Line(msgspec.Struct, frozen=True):
    cursor: int
    time: str
    table: str
    operation: str
    key: int | float | str | None
    old: msgspec.Raw | None
    new: msgspec.Raw | None


_encode_line = msgspec.json.Encoder().encode


def event_id_line(client_id: str, place: Cursor | None = None) -> bytes:
    """Give the first line of an event, without its end."""
    invariant(_is_line(client_id), "an id is a line", client_id=client_id)
    return f"id:{client_id if place is None else event_id(client_id, place)}".encode()


def event_rest(name: str, data: bytes) -> bytes:
    """Give what follows the id of an event, the same for all who get it.

    Data of several lines travels as several, as the standard has it.
    """
    invariant(_is_line(name), "a name is a line", name=name)
    return f"\nevent:{name}\n".encode() + _data(data)


def change_frame(change: Change) -> bytes:
    """Give one event of the plain feed."""
    return b"id:%d\n" % change.sequence + _data(change_json(change))


def change_line(change: Change) -> bytes:
    """Give one line of the plain feed as NDJSON."""
    return change_json(change) + b"\n"


def connected_data(client_id: str) -> bytes:
    """Give the data of the first event of a stream."""
    return b'{"clientId":' + msgspec.json.encode(client_id) + b"}"


def record_data(record: bytes, action: str) -> bytes:
    """Give the data of an event about a record whose JSON is given."""
    return b'{"record":' + record + b',"action":' + msgspec.json.encode(action) + b"}"


def change_json(change: Change) -> bytes:
    """Give the JSON of a change."""
    key = change.key.hex() if isinstance(change.key, bytes) else change.key
    line = _Line(
        cursor=change.sequence,
        time=_time_of(change.time_ms),
        table=change.table,
        operation=change.operation,
        key=key,
        old=_raw(change.old_json),
        new=_raw(change.new_json),
    )
    return _encode_line(line)


def _raw(text: str | None) -> msgspec.Raw | None:
    return None if text is None else msgspec.Raw(text.encode())


def _time_of(time_ms: int) -> str:
    moment = datetime.fromtimestamp(time_ms // 1000, UTC)
    return f"{moment:%Y-%m-%d %H:%M:%S}.{time_ms % 1000:03d}Z"


def _data(data: bytes) -> bytes:
    if b"\n" in data or b"\r" in data:
        data = b"\ndata:".join(data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"))
    return b"data:" + data + b"\n\n"


def _is_line(text: str) -> bool:
    return "\n" not in text and "\r" not in text
