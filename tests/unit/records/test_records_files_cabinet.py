"""Where files are: the bucket of the settings, copies of other nodes, and what is swept away."""

import asyncio
import os

import pytest
import small_s3

from pando.api.records_fetch import FETCHES_MAX, WAITING_MAX, NodeFiles
from pando.errors import Overloaded, PrimaryUnavailable, StorageError
from pando.records.fields.values import NewFile
from pando.records.files import spool as spools
from pando.records.files.local_storage import LocalStorage
from pando.records.files.proofs import LIFE_S, FileProofs
from pando.records.files.spool import Spools
from pando.records.files.storage import FileMissing
from pando.records.files.sweeping import sweep
from pando.store.protocol import Topology
from pando.testing.virtual_clock import VirtualClock
from pando.testing.waiting import turns, until

ONE = {"name": "one", "type": "file"}
KEY = "c1/r1/a_0123456789.txt"


def create(site, content=b"content", *, collection="docs"):
    answer = site.form("POST", f"collections/{collection}/records", ("one", ("a.txt", content)))
    assert answer.status == 200, answer.body
    return answer.json


def url(record):
    return f"files/{record['collectionName']}/{record['id']}/{record['one']}"


# -- buckets ----------------------------------------------------------------------------------------------------------


def test_files_are_in_the_bucket_that_the_settings_name(site):
    site.collection("docs", ONE)
    with small_s3.served() as (bucket, address):
        s3 = {"bucket": "bucket", "region": "eu", "endpoint": address, "accessKey": "someone", "secret": "s"}
        settings = {"s3": {"enabled": True, "forcePathStyle": True, **s3}}
        assert site("PATCH", "settings", settings, token=site.su).status == 200
        record = create(site)
        assert list(bucket.objects) == [f"{record['collectionId']}/{record['id']}/{record['one']}"]
        assert site.stored() == []
        assert site("GET", url(record)).body == b"content"
        assert site("DELETE", f"collections/docs/records/{record['id']}").status == 204
        assert list(bucket.objects) == []
        lasting = create(site)
        assert site("PATCH", "settings", {"s3": {"enabled": False}}, token=site.su).status == 200
        assert site("GET", url(lasting)).status == 404
        assert len(site.stored()) == 0 and create(site)["one"] and len(site.stored()) == 1
        site.node.run(site.files.close())  # while the bucket can still be reached


# -- spools -----------------------------------------------------------------------------------------------------------


def test_what_is_in_memory_of_one_request_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(spools, "MEMORY_BYTES_MAX", 1000)

    async def scenario():
        kept = Spools(tmp_path / "deep" / "tmp")
        async with kept.open() as spool:
            uploads = []
            for number in range(6):
                receiving = spool.receive()
                content = bytes([number]) * 400
                for start in range(0, 400, 150):
                    await receiving.add(content[start : start + 150])
                await receiving.finish()
                uploads.append((receiving.as_upload(NewFile("a", 400, "")), content))
            assert spool.in_memory == 800 and spool.end == 1600
            for upload, content in uploads:
                found = upload.content()
                assert (found if isinstance(found, bytes) else b"".join([each async for each in found])) == content
            assert os.listdir(tmp_path / "deep" / "tmp") == [], "the temporary file has no name"
        kept.close()

    asyncio.run(scenario())


def test_a_spool_that_is_closed_takes_and_gives_nothing(tmp_path):
    async def scenario():
        kept = Spools(tmp_path)
        async with kept.open() as spool:
            receiving = spool.receive()
            await receiving.add(bytes(300_000))
            await receiving.finish()
        for _ in range(spools.SPOOLS_MAX + 1):
            async with kept.open() as other:
                await other.append([b"x"])
        with pytest.raises(Exception, match="while its request goes on"):
            await spool.append([b"x"])
        kept.close()

    asyncio.run(scenario())


# -- proofs -----------------------------------------------------------------------------------------------------------


def test_proofs_hold_for_their_path_their_key_and_a_while():
    proofs, path, now = FileProofs(b"k" * 32), "/api/files/c/r/n.txt", 1_790_000_000
    made = proofs.make(path, now)
    assert proofs.holds(made, path, now + LIFE_S) and proofs.holds(made, path, now - LIFE_S)
    assert not proofs.holds(made, path + "x", now)
    assert not proofs.holds(made, path, now + LIFE_S + 1)
    assert not FileProofs(b"j" * 32).holds(made, path, now)
    later = made.replace(str(now), str(now + 1))
    for text in (later, "", ".", "x.y", f"{now}.", f"{now}", f"-{now}.{made}", "٣.x", f"{'9' * 30}.x", made + "é"):
        assert not proofs.holds(text, path, now), text


# -- other nodes ------------------------------------------------------------------------------------------------------


class OtherNode:
    """Answers GET with what it is told, and says what it was asked."""

    def __init__(self, answer):
        self.answer = answer
        self.asked = []
        self.serving = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_):
        self.server.close()
        self.may_answer.set()
        await asyncio.gather(*self.serving)

    async def serve(self, reader, writer):
        self.serving.append(asyncio.current_task())
        self.asked.append(await reader.readuntil(b"\r\n\r\n"))
        await self.may_answer.wait()
        writer.write(self.answer)
        writer.close()


class Nodes:
    is_primary = False

    def __init__(self, url):
        self.topology = Topology(node="n", role="replica", epoch=1, primary_url=url, ready=True, reason="")

    async def status(self):
        raise AssertionError("a replica asks the primary")


def answered(body, *, length=None, tag="", status="200 OK"):
    head = f"HTTP/1.1 {status}\r\ncontent-type: text/x\r\ncontent-length: {len(body) if length is None else length}\r\n"
    return (head + (f"etag: {tag}\r\n" if tag else "") + "\r\n").encode() + body


def fetching(tmp_path, answer, scenario):
    async def run():
        storage = LocalStorage(tmp_path / "storage")
        async with OtherNode(answer) as other:
            fetch = NodeFiles(Nodes(other.url), FileProofs(b"k" * 32), VirtualClock())
            await scenario(fetch, storage, other)
            await fetch.close()
        await storage.close()

    asyncio.run(run())


async def read(storage):
    return b"".join([piece async for piece in storage.read(KEY)])


def test_a_file_is_fetched_once_for_all_who_wait(tmp_path):
    body = bytes(range(256)) * 4000

    async def scenario(fetch, storage, other):
        other.may_answer.clear()
        asks = [asyncio.create_task(fetch(storage, KEY)) for _ in range(5)]
        await until(lambda: other.asked)
        asks[0].cancel()  # one who goes does not take it from the others
        await turns()
        other.may_answer.set()
        await asyncio.gather(*asks[1:])
        assert (len(other.asked), await read(storage)) == (1, body)
        assert (await storage.head(KEY)).content_type == "text/x"
        [request] = other.asked
        assert request.startswith(f"GET /api/files/{KEY} HTTP/1.1\r\n".encode())
        proof = request.partition(b"pando-node-file: ")[2].partition(b"\r\n")[0].decode()
        assert FileProofs(b"k" * 32).holds(proof, f"/api/files/{KEY}", 1_700_000_000)

    fetching(tmp_path, answered(body), scenario)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (answered(b"", status="404 Not Found"), FileMissing),
        (answered(b"", status="503 Service Unavailable"), PrimaryUnavailable),
        (answered(b"short", length=10), PrimaryUnavailable),
        (answered(b"other", tag='"' + "0" * 32 + '"'), StorageError),
        (answered(b"x", length="nonsense"), PrimaryUnavailable),
        (b"no HTTP at all\r\n\r\n", PrimaryUnavailable),
        (b"", PrimaryUnavailable),
    ],
)
def test_what_did_not_come_whole_is_not_kept(tmp_path, answer, error):
    async def scenario(fetch, storage, other):
        with pytest.raises(error):
            await fetch(storage, KEY)
        with pytest.raises(FileMissing):
            await storage.head(KEY)

    fetching(tmp_path, answer, scenario)


def test_no_more_files_wait_than_may(tmp_path):
    async def scenario(fetch, storage, other):
        other.may_answer.clear()
        asks = [asyncio.create_task(fetch(storage, f"c1/r1/{at}")) for at in range(FETCHES_MAX + WAITING_MAX)]
        await until(lambda: len(other.asked) == FETCHES_MAX)
        with pytest.raises(Overloaded):
            await fetch(storage, KEY)
        assert len(other.asked) == FETCHES_MAX
        for ask in asks:
            ask.cancel()

    fetching(tmp_path, answered(b""), scenario)


def test_without_a_primary_nobody_can_say_whether_there_is_a_file(tmp_path):
    async def scenario():
        fetch = NodeFiles(Nodes(""), FileProofs(b"k" * 32), VirtualClock())
        with pytest.raises(PrimaryUnavailable):
            await fetch(LocalStorage(tmp_path), KEY)

    asyncio.run(scenario())


# -- sweeping ---------------------------------------------------------------------------------------------------------


def test_a_replica_lets_go_of_copies_that_no_record_names(site, monkeypatch):
    site.collection("docs", ONE)
    kept, gone = create(site), create(site)
    site.clock.wall = int(site.storage.stat().st_mtime * 1000)
    put = site.files.local.put

    async def put_all():
        for key in ("nowhere/r/a.txt", f"{gone['collectionId']}/{gone['id']}/other.txt"):
            await put(key, b"x", content_type="", size_max=1)

    site.node.run(put_all())
    assert site.node.run(sweep(site.desk, site.clock, pause_s=0)) == 0, "a primary keeps all"
    monkeypatch.setattr(site.node.store, "is_primary", False)
    assert site.node.run(sweep(site.desk, site.clock, pause_s=0)) == 0, "young ones stay"
    leftover = site.storage / ".pando_tmp" / "half"
    leftover.write_bytes(b"x")
    assert site.node.run(sweep(site.desk, site.clock, pause_s=0)) == 0 and leftover.exists()
    site.clock.wall += 4_000_000
    assert site.node.run(sweep(site.desk, site.clock, pause_s=0)) == 2
    assert not leftover.exists()
    expected = [f"{each['collectionId']}/{each['id']}/{each['one']}" for each in (kept, gone)]
    assert site.stored() == sorted(expected)
