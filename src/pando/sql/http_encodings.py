"""The two encodings of Hrana over HTTP: how bodies are read, and how answers and cursors are written. Pure.

What a request does never depends on its encoding; here is all that does. Not here: what the encodings are made of (see
`pando.sql.messages`, `pando.sql.answers`, `pando.sql.cursors` and their counterparts `pando.sql.protobuf_...`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from pando import limits
from pando.errors import invariant
from pando.sql.answers import encode_answer, encode_cursor_head
from pando.sql.calls import CursorAnswer
from pando.sql.cursors import Entries, error_entry, index_entry, json_entries
from pando.sql.messages import CursorBody, PipelineBody, decode_cursor, decode_pipeline
from pando.sql.protobuf_answers import (
    encode_answer_protobuf,
    encode_cursor_head_protobuf,
    error_entry_protobuf,
    index_entry_protobuf,
    protobuf_entries,
)
from pando.sql.protobuf_messages import decode_cursor_protobuf, decode_pipeline_protobuf
from pando.sql.protobuf_wire import prefixed
from pando.store.requests import BatchResult, Failure, Result

CHUNK_BYTES: Final = 64 * limits.KIB
"""Entries of a cursor that are sent together; one entry may be longer."""


class EncodeAnswer(Protocol):
    """Writes the answer of a pipeline."""

    def __call__(
        self,
        results: Sequence[Result | str],
        *,
        baton: str | None,
        base_url: str | None = None,
        txid: int | None = None,
    ) -> bytes:
        """Give the body."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpEncoding:
    """One encoding. An entry of a cursor is written, then framed."""

    content_type: bytes
    cursor_content_type: bytes
    decode_pipeline: Callable[[bytes], PipelineBody]
    decode_cursor: Callable[[bytes], CursorBody]
    encode_answer: EncodeAnswer
    cursor_head: Callable[[str | None, str | None], bytes]
    entries: Entries
    error_entry: Callable[[Failure], bytes]
    index_entry: Callable[[int | None], bytes]
    frame: Callable[[bytes], bytes]
    ends_with_index: bool
    """Whether a cursor that has run ends with `replication_index` unasked."""


def _line(entry: bytes) -> bytes:
    return entry + b"\n"


JSON: Final = HttpEncoding(
    content_type=b"application/json",
    cursor_content_type=b"text/plain",
    decode_pipeline=decode_pipeline,
    decode_cursor=decode_cursor,
    encode_answer=encode_answer,
    cursor_head=encode_cursor_head,
    entries=json_entries,
    error_entry=error_entry,
    index_entry=index_entry,
    frame=_line,
    ends_with_index=True,
)

# Turso's clients take a cursor in JSON that does not end with the index for one that broke off. In protocol buffers
# the entry is sqld's alone, and the client that uses them fails on it: there, who sends an index knows the entry.
PROTOBUF: Final = HttpEncoding(
    content_type=b"application/x-protobuf",
    cursor_content_type=b"application/octet-stream",
    decode_pipeline=decode_pipeline_protobuf,
    decode_cursor=decode_cursor_protobuf,
    encode_answer=encode_answer_protobuf,
    cursor_head=encode_cursor_head_protobuf,
    entries=protobuf_entries,
    error_entry=error_entry_protobuf,
    index_entry=index_entry_protobuf,
    frame=prefixed,
    ends_with_index=False,
)


def cursor_chunks(answer: CursorAnswer, encoding: HttpEncoding, *, knows_index: bool) -> Iterator[bytes]:
    """Write a cursor's answer piece by piece. `knows_index`: the client has sent an index itself."""
    parts, size = [encoding.frame(encoding.cursor_head(answer.baton, answer.base_url))], 0
    for entry in _entries(answer, encoding, knows_index=knows_index):
        parts.append(encoding.frame(entry))
        size += len(parts[-1])
        if size >= CHUNK_BYTES:
            yield b"".join(parts)
            parts, size = [], 0
    yield b"".join(parts)


def _entries(answer: CursorAnswer, encoding: HttpEncoding, *, knows_index: bool) -> Iterator[bytes]:
    result = answer.result
    if isinstance(result, Failure):
        yield encoding.error_entry(result)
    else:
        invariant(isinstance(result, BatchResult), "a cursor's result is a batch's", result=type(result))
        assert isinstance(result, BatchResult)
        yield from encoding.entries(result)
        if encoding.ends_with_index or knows_index:
            yield encoding.index_entry(None if answer.bookmark is None else int(answer.bookmark.txid))
