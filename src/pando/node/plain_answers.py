"""Whole HTTP answers for connections that are ended before anything else could answer them.

Pure. Not here: errors of requests that reached an application (`pando.api.http`, `pando.node.front_proxy`).
"""

from __future__ import annotations

from typing import Final

UNREAD: Final = "pando-unread"
"""Header of the 503 that ends a connection of which no request was read: whatever crossed it on its way had no effect,
and may be sent again over another connection."""


def plain_answer(status: str, message: str, code: str, *, retryable: bool, is_unread: bool = False) -> bytes:
    """Give a whole HTTP answer with a JSON error, after which the connection is closed."""
    shown = "true" if retryable else "false"
    body = f'{{"error":"{message}","message":"{message}","code":"{code}","retryable":{shown}}}'.encode()
    head = [
        f"HTTP/1.1 {status}",
        "content-type: application/json",
        f"content-length: {len(body)}",
        "retry-after: 1",
        "connection: close",
    ]
    if is_unread:
        head.append(f"{UNREAD}: 1")
    return "\r\n".join((*head, "", "")).encode() + body


def full_answer(message: str, *, is_unread: bool) -> bytes:
    """Give the answer of a server that has too many open connections; the message says why it is this one."""
    words = f"too many open connections; {message}"
    return plain_answer("503 Service Unavailable", words, "OVERLOADED", retryable=True, is_unread=is_unread)
