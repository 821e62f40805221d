"""Nodes with logs of a made-up database, and clients that keep a local file as libSQL's do, for both protocols.

A database is a list of pages; each commit changes some and is one entry of real logs. Nodes lag behind, lose commits at
failovers, drop old segments. What was committed ever is remembered by its pages.
"""

import asyncio
import hashlib
import random
import struct
from contextlib import suppress
from dataclasses import dataclass, field
from types import SimpleNamespace

import msgspec

from pando.api.embedded_node import EmbeddedNode, EmbeddedServices
from pando.api.embedded_v1 import EmbeddedV1
from pando.api.embedded_v2 import EmbeddedV2
from pando.api.http import Request, error_response
from pando.clock import SystemClock
from pando.errors import NotReady, PandoError, PrimaryUnavailable
from pando.ltx import LtxHeader, encode_ltx, page_checksum, rolling_checksum
from pando.sql.access import FULL_ACCESS
from pando.sql.embedded_generations import Chain
from pando.sql.pull_images import Image, image_name
from pando.store.commitlog import CommitLog, LogOptions
from pando.store.files import RealFileSystem
from pando.store.layout import Layout
from pando.store.segments import LogEntry
from pando.types import TXID, Checksum, Epoch, Position

PAGE = 4096
SMALL = LogOptions(segment_size_bytes=20_000)


def digest(pages):
    return hashlib.blake2b(b"".join(pages), digest_size=16).digest()


class Commits:
    """The database on its primary, and all states that it ever had."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.pages = []
        self.position = Position(epoch=Epoch(1), txid=TXID(0), checksum=Checksum(1 << 63))
        self.ever = {digest([])}
        self.at = {}

    def page(self):
        return self.random.randbytes(8) * (PAGE // 8)

    def next(self, epoch, most=6):
        """Make a commit on top of the present state; gives its entry."""
        before, pages = self.position, list(self.pages)
        count = max(1, len(pages) + self.random.choice([-2, -1, 0, 0, 1, 2, most]))
        changed = {1, *range(len(pages) + 1, count + 1)}
        changed |= {self.random.randint(1, count) for _ in range(self.random.randint(0, most))}
        pages = (pages + [b""] * count)[:count]
        for number in changed:
            page = self.page()
            pages[number - 1] = page[:24] + bytes(4) + page[28:92] + bytes(8) + page[100:] if number == 1 else page
        checksum = rolling_checksum(((n + 1, page) for n, page in enumerate(pages)), PAGE)
        header = LtxHeader(
            page_size=PAGE,
            commit=count,
            min_txid=before.txid + 1,
            max_txid=before.txid + 1,
            timestamp_ms=1_700_000_000_000,
            pre_apply_checksum=before.checksum if before.txid else Checksum(0),
        )
        if not before.txid:
            changed = set(range(1, count + 1))
        ordered = [(number, pages[number - 1]) for number in sorted(changed)]
        entry = LogEntry(
            epoch=Epoch(epoch),
            min_txid=TXID(before.txid + 1),
            max_txid=TXID(before.txid + 1),
            pre_checksum=before.checksum,
            post_checksum=checksum,
            timestamp_ms=1_700_000_000_000,
            payload=encode_ltx(header, ordered, checksum, previous_commit=len(self.pages)),
        )
        self.take(entry.position, pages)
        return entry

    def take(self, position, pages):
        self.position, self.pages = position, pages
        self.ever.add(digest(pages))
        self.at[position] = pages


class Positions:
    """The table of positions with one slot."""

    def __init__(self):
        self.now = (1, 0)

    def visible(self, _slot):
        return self.now

    def about(self, _slot):
        return self.now

    def position(self, _slot):
        return None


class Table:
    """The table of generations, the same on all nodes."""

    def __init__(self):
        self.rows = {}
        self.id = None

    async def chain(self, _database, number):
        return Chain(row for at, row in sorted(self.rows.items()) if at >= number)

    async def newest(self, _database):
        return Chain([self.rows[max(self.rows)]] if self.rows else [])

    async def add(self, _database, generation):
        self.rows.setdefault(generation.number, generation)

    async def log_id(self, _database):
        return self.id

    async def make_log_id(self, _database, log_id):
        self.id = self.id or log_id
        return self.id


class Node(EmbeddedNode):
    """One node: its log, what it shows, and the world in which it finds the primary."""

    def __init__(self, world, folder, entries):
        self.world = world
        self.positions = Positions()
        self.entries = list(entries)
        layout = Layout(folder)
        layout.make_folders()
        first = entries[0] if entries else None
        base = Position(epoch=Epoch(1), txid=TXID(0), checksum=Checksum(1 << 63))
        if first is not None:
            base = Position(epoch=first.epoch, txid=TXID(first.min_txid - 1), checksum=first.pre_checksum)
        self.file = CommitLog.begin(layout.log("data"), RealFileSystem(), base, options=SMALL)
        services = EmbeddedServices(
            store=self,
            service=SimpleNamespace(check_copying=lambda call: None),
            authenticate=lambda headers: FULL_ACCESS,
            positions=self.positions,
            layout=layout,
            clock=SystemClock(),
            random_bytes=lambda count: bytes(count),
        )
        super().__init__(services, generation_frames=world.generation_frames)
        self.images = self
        self.layout = layout
        self.kept = []
        self.v2 = EmbeddedV2(self, world.table)
        self.v1 = EmbeddedV1(
            self, world.table, None, index=0, web_socket=lambda _: folder, processes_file=folder / "none"
        )
        for entry in entries:
            self.show(entry)

    # -- the log --

    def show(self, entry):
        if entry not in self.entries:
            self.entries.append(entry)
        self.file.append(entry)
        self.file.sync()
        self.positions.now = (entry.epoch, entry.max_txid)

    # -- the store --

    @property
    def is_primary(self):
        return self.world.primary is self

    @property
    def topology(self):
        return SimpleNamespace(node="n", primary_url="http://primary")

    async def open_database(self, name):
        return SimpleNamespace(path=str(self.layout.database(name)), slot=0)

    async def wait_shown(self, _database, _epoch, _txid):
        return None

    async def primary_status(self):
        if self.world.primary is None:
            raise PrimaryUnavailable("gone")
        epoch, txid = self.world.primary.positions.now
        return SimpleNamespace(databases=[SimpleNamespace(name="data", epoch=epoch, txid=txid)])

    async def wait_position(self, _database, epoch, txid, _timeout_s):
        if self.positions.now < (epoch, txid):
            if not self.world.catches_up:
                raise NotReady("behind")
            self.world.follow(self, txid)

    async def forward(self, request):
        if self.world.primary is None:
            raise PrimaryUnavailable("gone")
        return await self.world.primary.answer(request.scope["path"], forwarded=True)

    # -- images: those of the commits that the log has --

    def newest(self, source, _up_to):
        txid = self.positions.now[1]
        position = next(place for place in reversed(self.world.commits.at) if place.txid == txid)
        return self.keep(position)

    def keep(self, position):
        path = self.layout.temporary / image_name("data", position)
        path.write_bytes(b"".join(self.world.commits.at[position]))
        self.kept = [*self.kept, Image(path, position)][-2:]
        return self.kept[-1]

    def exact(self, _database, txid, checksum):
        for image in self.kept:
            if (image.position.txid, image.position.checksum) == (txid, checksum):
                return image
        target = next((p for p in self.world.commits.at if (p.txid, p.checksum) == (txid, checksum)), None)
        if target and any(self.log.commits("data", i.position.txid, i.position.checksum, txid) for i in self.kept):
            return self.keep(target)
        return None

    def open(self, image):
        from pando.sql.pull_images import ImageFile

        return ImageFile(image)

    # -- asking --

    async def rpc(self, method, message, token=b""):
        """Call the first protocol; gives the messages of the answer, its status and the status' text."""
        scope = {
            "type": "http",
            "method": "POST",
            "path": f"/wal_log.ReplicationLog/{method}",
            "query_string": b"",
            "headers": [(b"x-session-token", token), (b"host", b"127.0.0.1:8080"), (b"x-namespace-bin", b"MTI3")],
        }
        body = struct.pack(">BI", 0, len(message)) + message

        async def receive():
            return {"type": "http.request", "body": body, "more_body": False}

        response = await self.v1.routes()["wal_log.ReplicationLog"](Request(scope, receive))
        assert response.status == 200
        data = response.body
        if response.stream is not None:
            data = b"".join([piece async for piece in response.stream])
        return read_answer(data)

    async def answer(self, path, *, forwarded=False):
        headers = [(b"pando-forwarded-by", b"x")] if forwarded else []
        scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": headers}

        async def receive():
            return {"type": "http.request", "body": b"", "more_body": False}

        request = Request(scope, receive)
        handler = self.v2.routes()[path.split("/")[1]]
        try:
            return await handler(request)
        except PandoError as error:
            return error_response(error)

    async def get(self, path):
        response = await self.answer(path)
        body = response.body
        if response.stream is not None:
            body = b"".join([piece async for piece in response.stream])
        return response.status, body


class World:
    """Nodes, and who is the primary."""

    def __init__(self, folder, seed, generation_frames=40):
        self.folder = folder
        self.random = random.Random(seed)
        self.generation_frames = generation_frames
        self.commits = Commits(seed)
        self.table = Table()
        self.catches_up = True
        self.made = 0
        self.primary = None
        self.epoch = 1
        self.primary = self.add([])
        self.nodes = [self.primary]

    def add(self, entries):
        self.made += 1
        return Node(self, self.folder / f"node-{self.made}", entries)

    def commit(self):
        self.primary.show(self.commits.next(self.epoch))

    def add_replica(self, keeps=None):
        """A replica with the last commits of the log; the older ones came to it as a snapshot."""
        entries = self.primary.entries if keeps is None else self.primary.entries[-keeps:]
        self.nodes.append(self.add(entries))

    def follow(self, node, txid):
        for entry in self.primary.entries:
            if node.positions.now[1] < entry.max_txid <= txid:
                node.show(entry)

    def fail_over(self, node):
        """A replica becomes the primary; what it does not have is lost, the others begin from it again."""
        self.epoch += 1
        kept = node.entries
        self.commits.position = kept[-1].position
        self.commits.pages = self.commits.at[kept[-1].position]
        lost = len(self.primary.entries) - len(kept)
        self.primary = node
        count = len(self.nodes)
        for old in self.nodes:
            if old is not node:
                old.shut()
        self.nodes = [node]
        for _ in range(count - 1):
            self.add_replica()
        return lost

    def close(self):
        for node in self.nodes:
            node.shut()


def _shut(self):
    self.close()
    self.log.close()
    self.file.close()


Node.shut = _shut


def read_answer(data):
    """Take an answer of gRPC-web apart."""
    messages = []
    while True:
        flags, size = struct.unpack_from(">BI", data)
        message, data = data[5 : 5 + size], data[5 + size :]
        if flags == 0x80:
            lines = dict(line.split(":", 1) for line in message.decode().strip().split("\r\n"))
            assert not data, "the status comes last"
            return messages, int(lines["grpc-status"]), lines.get("grpc-message", "")
        assert flags == 0
        messages.append(message)


def fields_of(message):
    """Read a message of protocol buffers; gives (number, value) pairs."""
    found, at = [], 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(message):
        key = varint()
        value = varint()
        if key & 7 == 2:
            value, at = message[at : at + value], at + value
        found.append((key >> 3, value))
    return found


def offset_message(offset):
    data, rest = bytearray(b"\x08"), offset
    while rest > 127:
        data.append(rest & 127 | 128)
        rest >>= 7
    return bytes([*data, rest])


@dataclass
class ClientV1:
    """Keeps a file as libSQL's client of the first protocol does."""

    world: World
    log_id: str = ""
    number: int | None = None
    file: list = field(default_factory=list)

    def inject(self, frames):
        """Apply frames; what follows the last commit is rolled back."""
        pages, newest = list(self.file), 0
        for frame in frames:
            number, _, pgno, size = struct.unpack_from("<QQII", frame)
            newest = max(newest, number)
            while len(pages) < pgno:
                pages.append(b"")
            pages[pgno - 1] = frame[24:]
            assert len(frame) == 24 + PAGE
            if size:
                del pages[size:]
                self.file, self.number, newest = list(pages), newest, 0
                assert digest(self.file) in self.world.commits.ever, "the local file is no state that ever was"

    async def sync(self, pick, steps=200):
        messages, status, text = await pick().rpc("Hello", b"\x08\x01")
        if status:
            raise NotReady(text)
        hello = dict(fields_of(messages[0]))
        log_id, token, index = hello[3].decode(), hello[4], hello.get(5)
        if self.log_id and self.log_id != log_id:
            self.number = None
        self.log_id = log_id
        for _ in range(steps):
            offset = offset_message(0 if self.number is None else self.number + 1)
            messages, status, text = await pick().rpc("BatchLogEntries", offset, token)
            if (status, text) == (9, "NEED_SNAPSHOT"):
                messages, status, text = await pick().rpc("Snapshot", offset, token)
                if status:
                    return False
                self.inject(dict(fields_of(message))[1] for message in messages)
                continue
            if status:
                return False
            self.inject(dict(fields_of(frame))[1] for _, frame in fields_of(messages[0]))
            if index is None or (self.number is not None and self.number >= index):
                return True
        return False

    def pages(self):
        return self.file


class Refused(Exception):
    """The client was told to begin anew."""


@dataclass
class ClientV2:
    """Keeps a file and a WAL as libSQL's client does, and makes durable what it does."""

    world: World
    generation: int = 0
    durable: int = 0
    file: list = field(default_factory=list)
    wal: list = field(default_factory=list)
    batch: int = 8

    def pages(self):
        pages = list(self.file)
        for commit in self.wal:
            for number, page, size in commit:
                while len(pages) < number:
                    pages.append(b"")
                pages[number - 1] = page
                if size:
                    del pages[size:]
        return pages

    def check(self):
        assert digest(self.pages()) in self.world.commits.ever, "the local file is no state that ever was"

    async def bootstrap(self, node):
        status, body = await node.get("/info")
        if status != 200:
            raise NotReady(str(body))
        generation = msgspec.json.decode(body)["current_generation"]
        status, body = await self.world.random.choice(self.world.nodes).get(f"/export/{generation}")
        if status != 200:
            raise NotReady(str(body))
        self.file = [body[at : at + PAGE] for at in range(0, len(body), PAGE)]
        self.generation, self.durable, self.wal = generation, 0, []
        self.check()

    async def sync(self, pick, steps=1000):
        """Pull as long as there is something, each piece from any node."""
        if not self.generation:
            await self.bootstrap(pick())
        following, frames = self.durable + 1, []
        for _ in range(steps):
            status, body = await pick().get(f"/sync/{self.generation}/{following}/{following + self.batch}")
            if status == 200:
                assert body and len(body) % (24 + PAGE) == 0 and len(body) // (24 + PAGE) <= self.batch
                for at in range(0, len(body), 24 + PAGE):
                    number, size = struct.unpack_from(">II", body, at)
                    frames.append((number, body[at + 24 : at + 24 + PAGE], size))
                    if size:
                        self.wal.append(frames)
                        frames, self.durable = [], following
                        self.check()
                    following += 1
            elif status == 400:
                told = msgspec.json.decode(body)["generation"]
                if told <= self.generation:
                    return True
                assert not frames, "a generation ends with a commit"
                self.file, self.wal = self.pages(), []
                self.generation, self.durable, following = self.generation + 1, 0, 1
            elif status == 410:
                raise Refused(body)
            else:
                return False
        return False

    def restart(self):
        self.generation, self.durable, self.file, self.wal = 0, 0, [], []


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 60))


__all__ = ["ClientV1", "ClientV2", "Refused", "World", "digest", "page_checksum", "run", "suppress"]
