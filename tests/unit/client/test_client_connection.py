"""What the two connections do beyond what sqlite3 does: threads, cancellation, bookmarks, failures of sockets."""

import asyncio
import contextlib
import dataclasses
import datetime
import ipaddress
import socket
import ssl
import subprocess
import sys
import threading

import pytest
from client_bench import TOKEN, BenchNode
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

import pando
from pando import client
from pando.client import async_transport
from pando.client.async_transport import AsyncTransport
from pando.client.judging import Broken, Reply, Send
from pando.client.targets import Address
from pando.client.transport import IDLE_S, Transport
from pando.testing.virtual_clock import VirtualClock


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    made = BenchNode(tmp_path_factory.mktemp("node"))
    with pando.connect(made.url, token=TOKEN, autocommit=True) as connection:
        connection.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT)")
    connection.close()
    yield made
    made.close()


@pytest.fixture
def db(node):
    connection = pando.connect(node.url, token=TOKEN)
    connection.execute("DELETE FROM t")
    connection.commit()
    node.seen.clear()
    yield connection
    connection.close()


def count(connection):
    return connection.execute("SELECT count(*) FROM t").fetchone()[0]


# -- the module


def test_the_module_has_what_pep_249_asks_for():
    assert (client.apilevel, client.paramstyle, client.threadsafety) == ("2.0", "qmark", 2)
    assert issubclass(client.Error, Exception) and issubclass(client.Warning, Exception)
    assert issubclass(client.OutcomeUnknown, client.OperationalError)
    for name in ("InterfaceError", "DatabaseError"):
        assert issubclass(getattr(client, name), client.Error)
    for name in (
        "DataError",
        "OperationalError",
        "IntegrityError",
        "InternalError",
        "ProgrammingError",
        "NotSupportedError",
    ):
        assert issubclass(getattr(client, name), client.DatabaseError)
        assert getattr(client.Connection, name) is getattr(client, name)


def test_the_sync_client_imports_neither_asyncio_nor_the_server():
    script = (
        "import sys, pando; pando.connect; "
        "heavy = ('aiohttp', 'asyncio', 'apsw', 'uvicorn', 'sqlalchemy', 'pando.sql', 'pando.api', 'pando.node'); "
        "print([name for name in sys.modules if name.startswith(heavy)])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done.stderr


def test_nothing_is_sent_before_the_first_statement():
    connection = pando.connect("pando://127.0.0.1:1", token="x", retry_s=0)
    connection.commit()
    connection.rollback()
    with pytest.raises(client.OperationalError, match="refused") as caught:
        connection.execute("SELECT 1")
    assert caught.value.code == "UNREACHABLE" and isinstance(caught.value, pando.PandoError)
    connection.close()


def test_a_wrong_token_says_what_to_do(node):
    connection = pando.connect(node.url, token="wrong")
    with pytest.raises(client.OperationalError, match="pando token"):
        connection.execute("SELECT 1")
    connection.close()


# -- connections


def test_transactions_as_blocks(db):
    with db.transaction():
        db.execute("INSERT INTO t(name) VALUES ('a')")
    with pytest.raises(ZeroDivisionError), db.transaction():
        db.execute("INSERT INTO t(name) VALUES ('b')")
        raise ZeroDivisionError
    with db.transaction(read_only=True):
        assert count(db) == 1
        with pytest.raises(client.OperationalError):
            db.execute("DELETE FROM t")
    assert count(db) == 1 and not db.in_transaction


def test_autocommit_and_isolation_can_be_changed_between_transactions(db):
    db.autocommit = True
    db.execute("INSERT INTO t(name) VALUES ('a')")
    assert not db.in_transaction and db.autocommit
    db.autocommit = False
    db.isolation = "SERIALIZABLE"
    assert count(db) == 1 and db.in_transaction
    for name, value in (("autocommit", True), ("isolation", "READ COMMITTED"), ("isolation", "CHAOS")):
        with pytest.raises(client.ProgrammingError):
            setattr(db, name, value)
    db.rollback()


def test_bookmarks_travel_with_requests_and_between_connections(node, db):
    assert db.bookmark.startswith("data.")
    with pando.connect(node.url, token=TOKEN) as other:
        other.add_bookmark(db.bookmark)
        other.execute("SELECT 1")
    assert node.seen[-1][1]["pando-bookmark"] == db.bookmark
    other.close()
    with (
        pando.connect(node.url, token=TOKEN, share=True) as one,
        pando.connect(node.url, token=TOKEN, share=True) as two,
    ):
        one.execute("SELECT 1")
        assert two.bookmark == one.bookmark != ""
    one.close()
    two.close()


def test_one_connection_to_a_node_is_kept(node, db):
    clients = {id(db._transport._kept[address][0]) for address in db.target.nodes}
    for _ in range(3):
        count(db)
    assert {id(db._transport._kept[address][0]) for address in db.target.nodes} == clients


def test_the_first_pragma_after_a_change_of_the_schema_sees_it(db):
    count(db)
    db.autocommit = True
    for name in ("one", "two"):
        db.execute(f"CREATE TABLE {name}(id INTEGER PRIMARY KEY, t REFERENCES t(id))")
        assert [row[2:5] for row in db.execute(f"PRAGMA foreign_key_list({name})")] == [("t", "t", "id")]
        db.execute(f"DROP TABLE {name}")
        assert db.execute(f"PRAGMA foreign_key_list({name})").fetchall() == []


def test_threads_take_turns(db):
    db.autocommit = True

    def work(number):
        for step in range(10):
            db.execute("INSERT INTO t(name) VALUES (?)", (f"{number}-{step}",))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert count(db) == 40


def test_a_result_that_is_too_large_says_what_to_do(db):
    with pytest.raises(client.DataError, match="LIMIT") as caught:
        db.execute(
            "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n LIMIT 12)"
            "SELECT hex(zeroblob(500000)) FROM n"
        )
    assert caught.value.code == "RESPONSE_TOO_LARGE"


# -- sockets


class Peer:
    """Accepts connections and answers each with the next of the texts, then closes it."""

    def __init__(self, *texts):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = Address("127.0.0.1", self._listener.getsockname()[1])
        self.received = []
        self.ended = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._serve, args=(texts,), daemon=True)
        self._thread.start()

    def _serve(self, texts):
        for text in texts:
            connection, _ = self._listener.accept()
            with connection:
                received = b""
                while not received.endswith(b"body"):
                    received += connection.recv(65536)
                self.received.append(received)
                connection.sendall(text)
            self.ended.release()

    def close(self):
        self._thread.join(20)
        self._listener.close()


def send_sync(request):
    transport = Transport(1.0, VirtualClock().monotonic)
    try:
        return transport.send(request)
    finally:
        transport.close()


def send_async(request):
    async def run():
        transport = AsyncTransport(1.0)
        try:
            return await transport.send(request)
        finally:
            await transport.close()

    return asyncio.run(run())


both = pytest.mark.parametrize("send", [send_sync, send_async])


@both
@pytest.mark.parametrize(
    "text",
    [b"", b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", b"nonsense\r\n\r\n"],
)
def test_an_answer_that_breaks_off_was_sent(send, text):
    peer = Peer(text)
    outcome = send(Send(peer.address, "/x", {}, b"body"))
    assert isinstance(outcome, Broken) and outcome.is_sent and outcome.reason
    peer.close()


@both
def test_an_answer_is_given_whole(send):
    body = b"x" * 300_000
    head = f"HTTP/1.1 503 no\r\ncontent-length: {len(body)}\r\nPando-Bookmark: data.1.2\r\nconnection: close\r\n\r\n"
    peer = Peer(head.encode() + body)
    outcome = send(Send(peer.address, "/x", {"authorization": "Bearer t"}, b"body"))
    assert outcome == Reply(503, "data.1.2", body)
    assert peer.received[0].startswith(b"POST /x HTTP/1.1\r\n") and peer.received[0].endswith(b"\r\n\r\nbody")
    peer.close()


@both
def test_where_nobody_listens_nothing_was_sent(send):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        outcome = send(Send(Address("127.0.0.1", taken.getsockname()[1]), "/x", {}, b"body"))
    assert isinstance(outcome, Broken) and not outcome.is_sent
    for host in ("no-such-host.invalid", "x" * 300):
        outcome = send(Send(Address(host, 1), "/x", {}, b"body"))
        assert isinstance(outcome, Broken) and not outcome.is_sent


class LazyPeer(Peer):
    """Answers the first request of its only connection, takes the second and goes away; nobody else is let in."""

    def _serve(self, texts):
        connection, _ = self._listener.accept()
        with connection:
            for text in (*texts, b""):
                self.received.append(connection.recv(65536))
                connection.sendall(text)
        self._listener.settimeout(0.1)
        with contextlib.suppress(TimeoutError):
            self._listener.accept()
            self.received.append(b"another connection")


async def twice(peer):
    """Send two requests with the same asyncio transport."""
    transport = AsyncTransport(1.0)
    try:
        return [await transport.send(Send(peer.address, "/x", {}, b"body")) for _ in range(2)]
    finally:
        await transport.close()


def twice_sync(peer):
    transport = Transport(1.0, VirtualClock().monotonic)
    try:
        return [transport.send(Send(peer.address, "/x", {}, b"body")) for _ in range(2)]
    finally:
        transport.close()


@pytest.mark.parametrize("ask", [twice_sync, lambda peer: asyncio.run(twice(peer))], ids=["sync", "async"])
def test_a_request_on_a_kept_connection_is_not_sent_again(ask):
    peer = LazyPeer(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
    first, second = ask(peer)
    peer.close()
    assert first == Reply(200, "", b"ok")
    assert isinstance(second, Broken) and second.is_sent
    assert b"".join(peer.received).count(b"POST") == 2 and b"another connection" not in peer.received


@pytest.fixture
def certificate(tmp_path):
    """A key, and a certificate for 127.0.0.1 that nobody has signed but its owner."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "node")])
    began = datetime.datetime(2020, 1, 1)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(7).not_valid_before(began).not_valid_after(began + datetime.timedelta(36500))
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = made.add_extension(names, critical=False).sign(key, hashes.SHA256())
    path = tmp_path / "node.pem"
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(secret + made.public_bytes(Encoding.PEM))
    return path


class SecurePeer(Peer):
    """A peer that speaks TLS; who does not trust it goes away."""

    def __init__(self, certificate, *texts):
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)
        super().__init__(*texts)
        self.address = dataclasses.replace(self.address, is_tls=True)

    def _serve(self, texts):
        listener = self._listener
        with contextlib.suppress(OSError):
            self._listener = self._context.wrap_socket(listener, server_side=True)
            super()._serve(texts)


@both
def test_a_node_whose_certificate_is_not_trusted_gets_nothing(send, certificate):
    peer = SecurePeer(certificate, b"")
    outcome = send(Send(peer.address, "/x", {}, b"body"))
    assert isinstance(outcome, Broken) and not outcome.is_sent and "certificate" in outcome.reason.lower()
    peer.close()
    assert peer.received == []


def test_a_node_whose_certificate_is_trusted_answers(certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    peer = SecurePeer(certificate, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
    assert send_sync(Send(peer.address, "/x", {}, b"body")) == Reply(200, "", b"ok")
    peer.close()


@both
def test_silence_ends_by_time(send):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        outcome = send(Send(Address("127.0.0.1", silent.getsockname()[1]), "/x", {}, b"body", timeout_s=0.05))
    assert isinstance(outcome, Broken) and outcome.is_sent and "0.05 s" in outcome.reason


def test_a_connection_that_was_closed_meanwhile_or_is_old_is_not_used():
    clock = VirtualClock()
    transport = Transport(1.0, clock.monotonic)
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
    peer = Peer(answer, answer)
    for _ in range(2):
        assert transport.send(Send(peer.address, "/x", {}, b"body")) == Reply(200, "", b"ok")
        assert peer.ended.acquire(timeout=20), "the peer closes the connection after its answer"
    clock.advance(IDLE_S + 1)
    peer.close()
    assert transport.send(Send(peer.address, "/x", {}, b"body")) == Broken("Connection refused", is_sent=False)
    transport.close()


# -- asyncio


def run_async(node, program, **options):
    async def main():
        async with pando.aconnect(node.url, token=TOKEN, **options) as connection:
            return await program(connection)

    return asyncio.run(main())


def test_leaving_the_block_of_aconnect_commits_or_rolls_back_and_closes(node, db):
    async def insert(connection):
        await connection.execute("INSERT INTO t(name) VALUES ('a')")
        return connection

    async def fail(connection):
        await connection.execute("INSERT INTO t(name) VALUES ('b')")
        raise ZeroDivisionError

    closed = run_async(node, insert)
    with pytest.raises(client.ProgrammingError, match="closed"):
        closed.cursor()
    with pytest.raises(ZeroDivisionError):
        run_async(node, fail)
    assert count(db) == 1


def test_blocks_of_an_asyncio_transaction(node, db):
    async def program(connection):
        async with connection.transaction():
            await connection.execute("INSERT INTO t(name) VALUES ('a')")
        with pytest.raises(ZeroDivisionError):
            async with connection.transaction():
                await connection.execute("INSERT INTO t(name) VALUES ('b')")
                raise ZeroDivisionError
        connection.autocommit = True
        connection.isolation = "READ COMMITTED"
        assert connection.bookmark and connection.target.nodes
        connection.add_bookmark("data.1.1")
        async with connection.cursor() as cursor:
            await cursor.execute("SELECT name FROM t")
            assert await cursor.fetchone() == ("a",) and await cursor.fetchone() is None

    run_async(node, program)


def test_tasks_take_turns(node, db):
    async def program(connection):
        sql = "INSERT INTO t(name) VALUES (?)"
        await asyncio.gather(*(connection.execute(sql, (f"{number}",)) for number in range(20)))

    run_async(node, program, autocommit=True)
    assert count(db) == 20


class Held:
    """Holds requests back before they reach the node's store."""

    def __init__(self, node):
        self._node = node

    def __enter__(self):
        self._node._do(self._hold())
        return self

    async def _hold(self):
        self._node.store.before_run = asyncio.Event()

    def release(self):
        async def go():
            held, self._node.store.before_run = self._node.store.before_run, None
            held.set()

        self._node._do(go())

    def __exit__(self, *_):
        if self._node.store.before_run is not None:
            self.release()


async def cancelled(node, call):
    """Run a call until the node has it, then cancel it."""
    before = len(node.seen)
    task = asyncio.ensure_future(call)
    while len(node.seen) == before:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_cancelled_statement_of_a_transaction_rolls_it_back_and_says_so(node, db):
    async def program(connection):
        await connection.execute("INSERT INTO t(name) VALUES ('a')")
        with Held(node) as held:
            await cancelled(node, connection.execute("INSERT INTO t(name) VALUES ('b')"))
            held.release()
        with pytest.raises(client.TransactionLost, match="cancelled"):
            await connection.execute("INSERT INTO t(name) VALUES ('c')")
        with pytest.raises(client.TransactionLost):
            await connection.commit()
        await connection.rollback()
        await connection.execute("INSERT INTO t(name) VALUES ('d')")

    run_async(node, program)
    assert db.execute("SELECT name FROM t").fetchall() == [("d",)]
    assert node.store._sessions == {}


def test_a_cancelled_first_statement_leaves_no_transaction_behind(node, db):
    async def program(connection):
        with Held(node) as held:
            await cancelled(node, connection.execute("INSERT INTO t(name) VALUES ('a')"))
            held.release()

    run_async(node, program)
    assert count(db) == 0
    assert node.store._sessions == {}


def test_a_cancelled_commit_is_heard_out(node, db):
    async def program(connection):
        await connection.execute("INSERT INTO t(name) VALUES ('a')")
        with Held(node) as held:
            await cancelled(node, connection.commit())
            held.release()
        assert (await (await connection.execute("SELECT count(*) FROM t")).fetchone()) == (1,)

    run_async(node, program)
    assert count(db) == 1


def test_a_cancelled_call_that_stands_alone_leaves_the_connection_as_it_was(node, db):
    async def program(connection):
        with Held(node) as held:
            await cancelled(node, connection.execute("INSERT INTO t(name) VALUES ('a')"))
            held.release()
        assert await (await connection.execute("SELECT 7")).fetchone() == (7,)
        assert not connection.in_transaction

    run_async(node, program, autocommit=True)


def test_closing_waits_for_nothing_and_can_be_said_twice(node):
    async def program():
        connection = await pando.aconnect(node.url, token=TOKEN)
        await connection.execute("SELECT 1")
        await connection.close()
        await connection.close()
        other = await pando.aconnect(node.url, token=TOKEN)
        await other.execute("SELECT 1")
        other.terminate()
        with pytest.raises(client.ProgrammingError):
            await other.execute("SELECT 1")
        closing = list(async_transport._closing)
        assert len(closing) == 1
        await asyncio.wait(closing)
        assert not async_transport._closing

    asyncio.run(program())
