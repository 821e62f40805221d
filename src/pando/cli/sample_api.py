"""The records API as the sample data need it, with a superuser that exists for this long only.

Its password is random and forgotten; it is removed at the end, and by the next start should this one break off before.
Not here: what is asked (`sample`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import msgspec

from pando.cli.client import Answer, Client, read_error
from pando.clock import SystemClock, random_bytes, sleep_blocking, system_random
from pando.errors import CallerError, invariant

LOADER = "sample-loader@pando.invalid"
"""No mail can ever go there."""
NO_SAMPLE_DATA = "NO_SAMPLE_DATA"
"""The code of errors that leave a cluster without sample data."""
ATTEMPTS_MAX = 20
PAUSE_S = 0.5
_OK = (200,)
_LATER = (429, 503)
"""Nothing was done; it may be asked again."""
_REMOVE = "DELETE FROM _superusers WHERE email = ?"
_MAKE = (
    "INSERT INTO _superusers (id, email, password, tokenKey, verified, emailVisibility, created, updated)"
    " VALUES (?, ?, ?, ?, 1, 0, ?, ?)"
)
_COLLECTION = "SELECT id, options ->> '$.authToken.secret' FROM _collections WHERE name = '_superusers'"


class _Made(msgspec.Struct):
    id: str


class RecordsApi:
    """Requests with one token. Every error of the server is raised but the statuses that are asked for."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def ask(
        self, method: str, path: str, body: object = None, *, accepted: tuple[int, ...] = _OK, kind: str = ""
    ) -> Answer:
        """Send JSON, or bytes of a kind; waits a little for a server that says "later"."""
        data = body if isinstance(body, bytes) else None if body is None else msgspec.json.encode(body)
        headers = {"content-type": kind or "application/json"} if data is not None else {}
        for attempt in range(1, ATTEMPTS_MAX + 1):
            answer = self._client.request(method, path, body=data, headers=headers)
            if answer.status not in _LATER or attempt == ATTEMPTS_MAX:
                break
            sleep_blocking(PAUSE_S)
        if answer.status not in accepted:
            raise read_error(answer, self._client.url)
        return answer

    def ensure_collection(self, definition: Mapping[str, object]) -> str:
        """Make a collection unless there is one of that name; gives its id. Raises CallerError if it cannot be made."""
        found = self.ask("GET", f"/api/collections/{definition['name']}", accepted=(200, 404))
        if found.status != _OK[0]:
            found = self.ask("POST", "/api/collections", definition, accepted=(200, 400))
            if found.status != _OK[0]:
                reason = read_error(found, self._client.url).message
                raise CallerError(f"the collection {definition['name']} cannot be made: {reason}", code=NO_SAMPLE_DATA)
        return msgspec.json.decode(found.body, type=_Made).id

    def upload(self, collection: str, record: str, field: str, name: str, data: bytes) -> None:
        """Give a record a file; a record that is gone needs none."""
        boundary = random_bytes(16).hex()
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n\r\n'
        body = head.encode() + data + f"\r\n--{boundary}--\r\n".encode()
        path = f"/api/collections/{collection}/records/{record}"
        self.ask("PATCH", path, body, accepted=(200, 404), kind=f"multipart/form-data; boundary={boundary}")


@contextmanager
def borrowed_superuser(client: Client) -> Iterator[RecordsApi]:
    """Give the API with the rights of a superuser, which the client's token for SQL makes and removes."""
    RecordsApi(client).ask("GET", "/api/collections/_superusers/auth-methods")  # makes the tables if need be
    client.execute(_REMOVE, (LOADER,))
    try:
        with Client(client.url, token=_make(client)) as own:
            yield RecordsApi(own)
    finally:
        client.execute(_REMOVE, (LOADER,))


def _make(client: Client) -> str:
    """Make the superuser and give a token of it."""
    from pando.records.auth.passwords import hash_password
    from pando.records.auth.tokens import Claims, TokenKind, make_token
    from pando.records.fields.autogenerate import random_text, record_id
    from pando.records.fields.dates import from_unix_ms

    rows = client.execute(_COLLECTION).rows
    invariant(len(rows) == 1, "there is one collection of superusers")
    collection, secret = (str(value) for value in rows[0])
    random, now_ms = system_random(), SystemClock().wall_ms()
    key, record, now = random_text(random, 50), record_id(random), from_unix_ms(now_ms)
    password = hash_password(random_text(random, 50), random_bytes(16))
    client.execute(_MAKE, (record, LOADER, password, key, now, now))
    expires = now_ms // 1000 + 3600
    claims = Claims(collection_id=collection, exp=expires, id=record, refreshable=False, type=TokenKind.AUTH)
    return make_token(claims, key, secret)
