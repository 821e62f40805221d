"""One process with event streams on a fake store, whose tables are fed to `_changes` by triggers."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

from records_site import Site

from pando.api.records_app import RecordsApp, Router
from pando.api.records_changes import CHANGES_WRITES, ChangesRoutes
from pando.api.records_realtime import Realtime
from pando.api.records_table import ROUTES, WRITES
from pando.api.stream_forwarder import StreamForwarder
from pando.records.realtime.pump import Commits
from pando.store.feed import _CREATE
from pando.testing.waiting import until

KEY = b"k" * 32
IP = "10.0.0.1"


class StubStore:
    """Knows who this node is, and where others are."""

    def __init__(self, node="here", urls=()):
        self.topology = SimpleNamespace(node=node, primary_url="http://127.0.0.1:1")
        self._urls = dict(urls)

    async def primary_status(self):
        return SimpleNamespace(
            node="first", replicas=[SimpleNamespace(node=name, url=url) for name, url in self._urls.items()]
        )


class Stream:
    """One request for something without an end, read piece by piece."""

    def __init__(self, site, path, *, token="", headers=(), ip=IP, method="GET"):
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.taken = 0
        self.cuts = []
        self.room = asyncio.Event()
        self.room.set()
        self._gone = asyncio.Event()
        way, _, query = f"/api/{path}".partition("?")
        pairs = [(name.lower().encode(), value.encode()) for name, value in dict(headers).items()]
        if token:
            pairs.append((b"authorization", token.encode()))
        scope = {
            "type": "http",
            "method": method,
            "path": way,
            "raw_path": way.encode(),
            "query_string": query.encode(),
            "headers": pairs,
            "client": (ip, 1),
            "pando.cut": self.cuts.append,
        }
        self.task = asyncio.get_running_loop().create_task(site.app(scope, self._receive, self._send))

    async def _receive(self) -> Any:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        await self.room.wait()
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        self.body += message.get("body", b"")

    def leave(self):
        self._gone.set()

    async def begun(self):
        await until(lambda: self.body)
        return self

    async def events(self, count):
        """The next events: (id, event, data) of each."""
        await until(lambda: self.body.count(b"\n\n") >= self.taken + count)
        blocks = self.body.decode().split("\n\n")[self.taken : self.taken + count]
        self.taken += count
        found = [dict(line.split(":", 1) for line in block.split("\n")) for block in blocks]
        return [(each.get("id"), each.get("event"), json.loads(each["data"])) for each in found]

    async def client_id(self):
        """Read the first event."""
        ((client_id, name, data),) = await self.events(1)
        assert name == "PB_CONNECT" and data == {"clientId": client_id.split(".")[0]}
        return data["clientId"]

    async def changes(self, count):
        """Action and title of the next events."""
        return [(data["action"], data["record"].get("title")) for *_, data in await self.events(count)]

    async def lines(self, count):
        """The next lines of NDJSON."""
        await until(lambda: len(self._whole_lines()) >= count)
        return [json.loads(line) for line in self._whole_lines()[:count]]

    def _whole_lines(self):
        return [line for line in self.body.split(b"\n")[:-1] if line]


class RealtimeSite(Site):
    """See the module."""

    def __init__(self, directory, **options):
        super().__init__(directory, **options)
        self.commits = Commits(lambda: None, lambda: None)
        self.store = StubStore()
        self.ended = []
        forwarder = StreamForwarder(self.store, lambda index: directory / f"web-{index}.sock", index=0, key=KEY)
        numbers = iter(range(1, 1000))
        self.realtime = Realtime(
            self.desk,
            self.commits,
            forwarder,
            clock=self.clock,
            random_bytes=lambda size: next(numbers).to_bytes(size, "big"),
            on_ended=self.ended.append,
        )
        self.changes = ChangesRoutes(self.desk, self.commits)
        routes = {**ROUTES, **self.realtime.routes, **self.changes.routes}
        self.ip = IP
        self._inner = RecordsApp(self.desk, Router(routes, writes=WRITES | CHANGES_WRITES), self._forward, self.log)
        self.app = self._from_ip
        self.sql(_CREATE)

    async def _from_ip(self, scope, receive, send):
        scope.setdefault("client", (self.ip, 1))
        await self._inner(scope, receive, send)

    def close(self):
        self.node.run(self._stop())
        super().close()

    async def _stop(self):
        self.realtime.stop()
        self.changes.stop()
        await asyncio.sleep(0)

    async def _ask(self, *parts, **options):
        answer = await super()._ask(*parts, **options)
        self.commits.wake()
        return answer

    def fed(self, *tables):
        """Have changes of tables written to the feed, with the time of the site's clock."""
        for table in tables:
            names = [name for (name,) in self.rows("SELECT name FROM pragma_table_info(?)", table)]
            old, new = (
                "json_object(" + ", ".join(f"'{name}', {row}.`{name}`" for name in names) + ")"
                for row in ("old", "new")
            )
            for operation, row, before, after in (
                ("insert", "new", "NULL", new),
                ("update", "new", old, new),
                ("delete", "old", old, "NULL"),
            ):
                self.sql(
                    f"CREATE TRIGGER `fed_{operation}_{table}` AFTER {operation} ON `{table}` BEGIN"
                    f' INSERT INTO _changes (time_ms, "table", operation, key, old, new) VALUES ('
                    f"{self.clock.wall}, '{table}', '{operation}', {row}.rowid, {before}, {after}); END"
                )

    # -- within a scenario --

    def open(self, path="realtime", **options):
        return Stream(self, path, **options)

    async def ask(self, method, path, body=None, *, token="", headers=None):
        """Ask; gives the answer."""
        return await self._ask(method, path, body, token, headers or {})

    async def subscribe(self, stream, *texts, token="", status=204, client_id=None):
        """Subscribe; gives the answer."""
        if client_id is None:
            client_id = await stream.client_id()
        body = {"clientId": client_id, "subscriptions": texts}
        answer = await self.ask("POST", "realtime", body, token=token)
        assert answer.status == status, answer.body
        return answer
