"""Calls an ASGI application without a server: one request, its whole answer."""

from dataclasses import dataclass, field

import msgspec


@dataclass
class Got:
    """An answer."""

    status: int = 0
    headers: dict[bytes, bytes] = field(default_factory=dict)
    body: bytes = b""

    def json(self):
        return msgspec.json.decode(self.body)


async def call(app, method, path, *, body=b"", token="", headers=(), chunk=0):
    """Send a request to the application; `chunk` cuts the body into pieces of that size."""
    path, _, query = path.partition("?")
    pairs = [(b"host", b"x"), *headers]
    if token:
        pairs.append((b"authorization", b"Bearer " + token.encode()))
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": pairs,
    }
    size = chunk or max(1, len(body))
    pieces = [body[at : at + size] for at in range(0, len(body), size)] or [b""]
    got = Got()

    async def receive():
        if not pieces:
            return {"type": "http.disconnect"}
        piece = pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    async def send(message):
        if message["type"] == "http.response.start":
            got.status, got.headers = message["status"], dict(message["headers"])
        else:
            got.body += message.get("body", b"")

    await app(scope, receive, send)
    return got
