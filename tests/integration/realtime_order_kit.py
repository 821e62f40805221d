"""Writers, subscribers and readers of the change feed on a cluster whose nodes are killed meanwhile.

Everybody knows the addresses of all nodes and takes the next one when theirs is lost. What a subscriber must have heard
is computed from the feed (`Told.of`), and the feed is compared with what writers were told and with what is stored.
"""

import asyncio
import itertools
import json
import os
import random
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import quote

import aiohttp
from cluster_kit import is_alive, wait_until

from pando.node.local_cluster import is_healthy

COLLECTIONS = ("notes", "secrets", "posts")
TOPICS = tuple(f"{name}/*" for name in COLLECTIONS)
EVEN = "posts/*?options=" + quote(json.dumps({"query": {"filter": "kind = 'even'"}}))
END = "end"
PASSWORD = "correct horse"
HEALED_S = 60.0
"""How long a killed node may take until it serves again, and everybody goes on."""
PAUSE_S = 0.05
"""Between two tries to connect."""
AWAY = (aiohttp.ClientError, OSError, EOFError, asyncio.TimeoutError)


def definitions(people):
    """The collections: everybody's, those of who is signed in, and the superusers'."""
    every = dict.fromkeys(("createRule", "updateRule", "deleteRule"), "")
    fields = [{"name": "n", "type": "number"}, {"name": "owner", "type": "text"}, {"name": "kind", "type": "text"}]
    own = "@request.auth.id != '' && owner = @request.auth.id"
    yield {"name": people, "type": "auth", "fields": [], "listRule": None, "createRule": ""}
    yield {"name": "posts", "fields": fields, "listRule": "", "viewRule": "", **every}
    yield {"name": "notes", "fields": fields, "listRule": own, "viewRule": own, **every}
    yield {"name": "secrets", "fields": fields, "listRule": None, "viewRule": None, **every}


@dataclass(frozen=True)
class Told:
    """One event about a record."""

    action: str
    collection: str
    key: str
    n: int
    owner: str
    kind: str

    @classmethod
    def of(cls, line):
        """What a line of the feed tells; None: of another table."""
        if line["table"] not in COLLECTIONS:
            return None
        row = line["old"] if line["operation"] == "delete" else line["new"]
        action = {"insert": "create"}.get(line["operation"], line["operation"])
        return cls(action, line["table"], row["id"], int(row["n"]), row["owner"], row["kind"])


async def wait_to_the_end(tries):
    """Read at one node after another, as long as theirs are lost; the test has the deadline."""
    for work in tries:
        with suppress(*AWAY):
            if await work:
                return
        await asyncio.sleep(PAUSE_S)


class Http:
    """Requests as JSON; raises one of AWAY when there is no whole answer."""

    def __init__(self, session):
        self.session = session

    async def ask(self, method, url, path, body=None, token=""):
        """Status and body."""
        headers = {"Authorization": token} if token else {}
        async with self.session.request(method, f"{url}/api/{path}", json=body, headers=headers) as answer:
            text = await answer.read()
        return answer.status, json.loads(text) if text else None

    async def all_records(self, url, collection, token):
        """Every record, by id."""
        found = {}
        for page in itertools.count(1):
            path = f"collections/{collection}/records?perPage=1000&sort=id&skipTotal=true&page={page}"
            status, body = await self.ask("GET", url, path, token=token)
            assert status == 200, body
            found |= {item["id"]: item for item in body["items"]}
            if len(body["items"]) < 1000:
                return found


class Served:
    """A cluster that serves records, with its superuser and two users; nodes of it are killed."""

    def __init__(self, cluster, session):
        self.cluster = cluster
        self.http = Http(session)
        self.urls = cluster.node_urls
        self.su = ""
        self.people = {}

    async def prepare(self):
        """Make superuser, collections and users."""
        cluster = self.cluster
        command = [sys.executable, "-m", "pando", "superuser", "upsert", "su@example.com", PASSWORD]
        command += ["--dir", str(cluster.nodes[0].directory)]
        environment = {**os.environ, "PANDO_SECRET": cluster.secret}
        await asyncio.to_thread(subprocess.run, command, env=environment, check=True, capture_output=True, timeout=60)
        self.su = (await self.sign_in("_superusers", "su@example.com"))["token"]
        for body in definitions("people"):
            await self.do("POST", self.urls[0], "collections", body, token=self.su)
        for name in ("ann", "bob"):
            body = {"email": f"{name}@example.com", "password": PASSWORD, "passwordConfirm": PASSWORD}
            await self.do("POST", self.urls[0], "collections/people/records", body)
            self.people[name] = await self.sign_in("people", f"{name}@example.com")

    async def do(self, method, url, path, body=None, token=""):
        """Ask for what must be done."""
        status, found = await self.http.ask(method, url, path, body, token)
        assert status in (200, 204), (status, found)
        return found

    async def sign_in(self, collection, identity):
        path = f"collections/{collection}/auth-with-password"
        return await self.do("POST", self.urls[0], path, {"identity": identity, "password": PASSWORD})

    async def kill(self, node, *, away, after):
        """Kill a whole node, let others go on without it, start it again, and let everybody go on."""
        pids = list(node.processes().values())
        node.kill_all()
        await self.until(lambda: not any(map(is_alive, pids)), "the node is gone", node.supervisor.process.poll)
        await self.until(away, "what happens while the node is away")
        await self.until(lambda: is_healthy(node.url), "the node is back", self.cluster.poll)
        await self.until(after, "what happens after it")

    async def until(self, condition, what, meanwhile=lambda: None):
        """Wait, while everything else goes on."""
        await asyncio.to_thread(wait_until, condition, HEALED_S, what, meanwhile)


class Writer:
    """Changes records of its own at all nodes in turn. What may have been done, or not, is not touched again."""

    numbers = itertools.count(1)

    def __init__(self, number, http, urls, owners):
        self.acknowledged = []
        self.failed = 0
        self._http, self._urls, self._owners = http, urls, owners
        self._turns = number
        self._rng = random.Random(number)
        self._prefix = f"w{number}"
        self._mine = {}

    async def run(self, total, done):
        """Go on until all writers together have `total` acknowledged writes."""
        while done[0] < total:
            await self.wait_for_a_write()
            done[0] += 1

    async def wait_for_a_write(self):
        """Write until something was acknowledged."""
        while not await self._write():
            self.failed += 1
            await asyncio.sleep(PAUSE_S)

    async def _write(self):
        told = self._next()
        self._turns += 1
        url = self._urls[self._turns % len(self._urls)]
        path = f"collections/{told.collection}/records"
        values = {"n": told.n, "owner": told.owner, "kind": told.kind}
        known = self._mine.pop((told.collection, told.key), None)
        try:
            if told.action == "create":
                status, _ = await self._http.ask("POST", url, path, {"id": told.key, **values})
            elif told.action == "update":
                status, _ = await self._http.ask("PATCH", url, f"{path}/{told.key}", values)
            else:
                status, _ = await self._http.ask("DELETE", url, f"{path}/{told.key}")
        except AWAY:
            status = 0
        if status not in (200, 204):
            assert status == 0 or status >= 500 or (known is None and status == 400), (status, told)
            return False
        self.acknowledged.append(told)
        if told.action != "delete":
            self._mine[told.collection, told.key] = told
        return True

    def _next(self):
        number = next(self.numbers)
        kind = "even" if number % 2 == 0 else "odd"
        owner = self._rng.choice(self._owners)
        if self._mine and (chance := self._rng.random()) < 0.6:
            known = self._mine[self._rng.choice(list(self._mine))]
            if chance < 0.2:
                return Told("delete", known.collection, known.key, known.n, known.owner, known.kind)
            return Told("update", known.collection, known.key, number, owner, kind)
        key = f"{self._prefix}{number}".ljust(15, "x")
        return Told("create", self._rng.choice(COLLECTIONS), key, number, owner, kind)


@dataclass
class Subscriber:
    """Reads an event stream, and takes another node when it ends; `runs` has what each stream told.

    `who`: the id of the owner that it is signed in as; None: a superuser.
    """

    name: str
    http: Http
    urls: list
    topics: tuple = TOPICS
    token: str = ""
    who: str | None = ""
    places: bool = True
    runs: list = field(default_factory=list)
    hears: asyncio.Event = field(default_factory=asyncio.Event)
    last_id: str = ""

    async def run(self):
        """Read until the record that ends the test has been heard of."""
        pairs = zip(self.urls, self.urls[1:] + self.urls[:1], strict=True)
        await wait_to_the_end(self._listen(url, other) for url, other in itertools.cycle(pairs))

    async def _listen(self, url, other):
        headers = {"Last-Event-ID": self.last_id} if self.places and self.last_id else {}
        query = "?places=true" if self.places else ""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
        async with self.http.session.get(f"{url}/api/realtime{query}", headers=headers, timeout=timeout) as answer:
            if answer.status != 200:
                assert answer.status >= 500, (self.name, answer.status, await answer.read())
                return False
            name, client = await self._event(answer)
            assert name == "PB_CONNECT"
            body = {"clientId": client["clientId"], "subscriptions": self.topics}
            status, found = await self.http.ask("POST", other, "realtime", body, self.token)  # finds its stream
            if status != 204:
                status, found = await self.http.ask("POST", url, "realtime", body, self.token)
            assert status == 204 or status >= 500, (self.name, status, found)
            if status != 204:
                return False
            self.hears.set()
            run = []
            self.runs.append(run)
            while True:
                topic, data = await self._event(answer)
                row = data["record"]
                told = Told(data["action"], row["collectionName"], row["id"], row["n"], row["owner"], row["kind"])
                assert topic in self.topics and topic.partition("/")[0] == told.collection
                run.append(told)
                if told.key.startswith(END):
                    return True

    async def _event(self, answer):
        lines = {}
        while (line := await answer.content.readline()) != b"\n":
            if not line.endswith(b"\n"):
                raise EOFError
            name, _, value = line.decode().rstrip("\n").partition(":")
            lines[name] = value
        self.last_id = lines["id"]
        return lines["event"], json.loads(lines["data"])

    def sees(self, told):
        """Whether it must hear of this."""
        topics = [topic for topic in self.topics if topic.partition("/")[0] == told.collection]
        if not topics or ("?" in topics[0] and told.kind != "even"):
            return False
        return told.collection == "posts" or self.who is None or (told.collection == "notes" and told.owner == self.who)

    def check(self, feed):
        """Compare what was heard with what the feed tells."""
        expected = [told for told in feed if self.sees(told)]
        if self.places:
            compare(self.name, [told for run in self.runs for told in run], expected)
            return
        index = {told: at for at, told in enumerate(expected)}
        for number, run in enumerate(self.runs):  # each stream is without a hole, from when it began until it was lost
            assert run or number + 1 < len(self.runs), self.name
            if run:
                assert run[0] in index, (self.name, run[0])
                begin = 0 if number == 0 else index[run[0]]
                compare(self.name, run, expected[begin : begin + len(run)])
        assert self.runs[-1][-1] == expected[-1]


def compare(name, found, expected):
    """Fail with the first difference, and what is missing or there twice."""
    if found == expected:
        return
    at = next((at for at, (one, other) in enumerate(zip(found, expected, strict=False)) if one != other), None)
    missing = list((Counter(expected) - Counter(found)).elements())
    extra = list((Counter(found) - Counter(expected)).elements())
    raise AssertionError(
        f"{name}: {len(found)} of {len(expected)}, the first other at {at}; {len(missing)} missing: {missing[:3]}, "
        f"{len(extra)} that must not be there or are twice: {extra[:3]}"
    )


@dataclass
class FeedReader:
    """Reads `/api/changes` from a cursor on, and goes on at another node when its node is lost."""

    http: Http
    urls: list
    token: str
    cursor: int
    lines: list = field(default_factory=list)

    async def run(self):
        """Read until the record that ends the test."""
        await wait_to_the_end(self._read(url) for url in itertools.cycle(self.urls))

    async def _read(self, url):
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
        headers = {"Authorization": self.token}
        path = f"{url}/api/changes?since={self.cursor}"
        async with self.http.session.get(path, headers=headers, timeout=timeout) as answer:
            assert answer.status == 200 or answer.status >= 500, (answer.status, await answer.read())
            while answer.status == 200 and (line := await answer.content.readline()):
                if not line.endswith(b"\n"):
                    return False
                if line == b"\n":
                    continue
                found = json.loads(line)
                assert found["cursor"] == self.cursor + 1
                self.cursor += 1
                self.lines.append(line)
                if found["table"] == "posts" and found["operation"] == "insert" and found["new"]["id"].startswith(END):
                    return True
        return False


def stored_by(lines):
    """What the feed makes of the collections: (n, owner, kind) by collection and id."""
    found = {name: {} for name in COLLECTIONS}
    for told in filter(None, map(Told.of, lines)):
        known = found[told.collection]
        assert (told.key in known) == (told.action != "create"), told
        if told.action == "delete":
            del known[told.key]
        else:
            known[told.key] = (told.n, told.owner, told.kind)
    return found
