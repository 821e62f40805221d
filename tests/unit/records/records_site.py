"""The records API of one process on a fake store, asked as ASGI, for the tests of its routes."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote

from pando.api.records_app import RecordsApp, Router
from pando.api.records_table import ROUTES, WRITES
from pando.errors import PrimaryUnavailable
from pando.records.auth.passwords import PasswordWorker, hash_password
from pando.records.desk import Desk
from pando.records.engine import Statement
from pando.records.files.cabinet import Cabinet
from pando.records.sqlite_engine import SqliteEngine

sys.path.insert(0, str(Path(__file__).parents[1] / "sql"))
from service_bench import Node, SteerableClock

PASSWORD = "correct horse"
HASH = hash_password(PASSWORD, b"0123456789abcdef", 4)


class WallClock(SteerableClock):
    """A clock whose wall time the tests set."""

    wall = 1_790_000_000_000

    def wall_ms(self) -> int:
        self.wall += 1
        return self.wall


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def code(self, *path: str) -> str:
        """The code of a problem, by field."""
        found = self.json["data"]
        for step in path:
            found = found.get(step, {})
        return str(found.get("code", ""))


class Log:
    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def emit(self, name: str, **facts: Any) -> None:
        self.lines.append({"event": name, **facts})


TEXT = {"name": "title", "type": "text"}
NUMBER = {"name": "n", "type": "number"}
SECRET = {"name": "secret", "type": "text", "hidden": True}
"""Fields that many collections have."""
CLOSED = dict.fromkeys(("listRule", "viewRule", "createRule", "updateRule", "deleteRule"))
"""Rules that let superusers alone do anything."""


def relation(name: str, target: Any, **more: Any) -> dict[str, Any]:
    """A field that names a record of another collection."""
    return {"name": name, "type": "relation", "collectionId": target["id"], "maxSelect": 1, **more}


MULTIPART = "multipart/form-data; boundary=----between"


def multipart(*parts: tuple[str, str | tuple[str, bytes]]) -> bytes:
    """A multipart body."""
    made = b""
    for name, value in parts:
        made += b'------between\r\nContent-Disposition: form-data; name="%b"' % name.encode()
        if isinstance(value, str):
            made += b"\r\n\r\n" + value.encode() + b"\r\n"
        else:
            made += b'; filename="%b"\r\nContent-Type: text/plain\r\n\r\n%b\r\n' % (value[0].encode(), value[1])
    return made + b"------between--\r\n"


class Site:
    """One process. `su` is a superuser's token."""

    def __init__(self, directory: Path, *, is_primary: bool = True) -> None:
        self.node = Node(directory, is_primary=is_primary)
        self.clock = WallClock()
        self.log = Log()
        self.passwords = PasswordWorker(threads=1)
        self.storage = directory / "storage"
        self.files = Cabinet(self.storage, directory / "tmp", self.log)
        self.desk = Desk(
            engine=SqliteEngine(self.node.service, "data"),
            clock=self.clock,
            random=Random(7),
            passwords=self.passwords,
            files=self.files,
        )
        router = Router(ROUTES, writes=WRITES)
        self.app = RecordsApp(self.desk, router, self._forward, self.log)
        self.su = ""

    async def _forward(self, asked: Any) -> Any:
        raise PrimaryUnavailable("there is no other node here")

    def close(self) -> None:
        self.passwords.close()
        self.node.run(self.files.close())
        self.node.close()

    # -- asking --

    def __call__(
        self, method: str, path: str, body: Any = None, *, token: str = "", headers: dict[str, str] | None = None
    ) -> Answer:
        """Ask; `path` is below `/api/`."""
        return self.node.run(self._ask(method, path, body, token, headers or {}))

    async def _ask(self, method: str, path: str, body: Any, token: str, headers: dict[str, str]) -> Answer:
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        way, _, query = f"/api/{path}".partition("?")
        pairs = [(b"host", b"localhost")]
        if "content-length" not in headers:
            pairs.append((b"content-length", str(len(data)).encode()))
        if not isinstance(body, bytes) and "content-type" not in headers:
            pairs.append((b"content-type", b"application/json"))
        if token:
            pairs.append((b"authorization", token.encode()))
        pairs += [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        scope = {
            "type": "http",
            "method": method,
            "path": way,
            "raw_path": quote(way, safe="/%").encode(),
            "query_string": query.encode(),
            "headers": pairs,
        }
        sent: list[Any] = []

        received = iter([{"type": "http.request", "body": data, "more_body": False}])

        async def receive() -> Any:
            for message in received:
                return message
            await asyncio.Event().wait()  # the client stays until it has its answer

        async def send(message: Any) -> None:
            sent.append(message)

        await asyncio.wait_for(self.app(scope, receive, send), 20)
        text = b"".join(message.get("body", b"") for message in sent[1:])
        return Answer(sent[0]["status"], {k.decode(): v.decode() for k, v in sent[0]["headers"]}, text)

    def form(
        self, method: str, path: str, *parts: tuple[str, str | tuple[str, bytes]], token: str = "", **headers: str
    ) -> Answer:
        """Ask with a multipart body: each part is a name with a text, or with a file's name and content."""
        return self(method, path, multipart(*parts), token=token, headers={"content-type": MULTIPART, **headers})

    def stored(self) -> list[str]:
        """Keys of the files that are stored."""
        found = [each for each in self.storage.rglob("*") if each.is_file()] if self.storage.exists() else []
        return sorted(each.relative_to(self.storage).as_posix() for each in found if each.suffix != ".attrs")

    # -- short words --

    def sql(self, text: str, *args: Any) -> None:
        self.node.run(self.desk.engine.write([Statement(text, args)]))

    def rows(self, text: str, *args: Any) -> list[Any]:
        found: list[Any] = self.node.run(self.desk.engine.query(text, args))
        return found

    def begin(self) -> Site:
        """Make the tables, and a superuser."""
        assert self("GET", "collections/users/auth-methods").status == 200
        self.sql(
            "insert into _superusers(id, email, password, tokenKey, verified, created, updated)"
            " values('su0000000000001', 'su@example.com', ?, 'superkey', 1, '', '')",
            HASH,
        )
        answer = self(
            "POST", "collections/_superusers/auth-with-password", {"identity": "su@example.com", "password": PASSWORD}
        )
        assert answer.status == 200, answer.body
        self.su = answer.json["token"]
        return self

    def collection(self, name: str, *fields: dict[str, Any], **more: Any) -> Any:
        """Make a collection; open to everybody unless rules are given."""
        rules = dict.fromkeys(("listRule", "viewRule", "createRule", "updateRule", "deleteRule"), "")
        answer = self("POST", "collections", {"name": name, "fields": list(fields), **rules, **more}, token=self.su)
        assert answer.status == 200, answer.body
        return answer.json

    def create(self, collection: str, token: str = "", **values: Any) -> Any:
        answer = self("POST", f"collections/{collection}/records", values, token=token or self.su)
        assert answer.status == 200, answer.body
        return answer.json

    def user(self, who: str, **values: Any) -> tuple[Any, str]:
        """Make a user and sign it in; gives record and token."""
        email = f"{who}@example.com"
        made = self.create("users", email=email, password=PASSWORD, passwordConfirm=PASSWORD, **values)
        body = {"identity": email, "password": PASSWORD}
        answer = self("POST", "collections/users/auth-with-password", body)
        assert answer.status == 200, answer.body
        return made, answer.json["token"]


def listed(site: Site, collection: str, token: str = "", **query: str) -> Answer:
    """Ask for a list."""
    text = "&".join(f"{name}={quote(value)}" for name, value in query.items())
    return site("GET", f"collections/{collection}/records?{text}", token=token)
