"""Links between nodes that are none: garbage, frames without end, strangers, a replica of another cluster.

Who does not know the secret is told so and cut off; who knows it and sends nonsense is cut off; all others are served.
"""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import msgspec
import pytest
from cluster_kit import free_base_port, wait_until
from hostile_kit import ask, connect, make_cluster, read_reply, served_meanwhile

from pando import limits
from pando.clock import random_bytes
from pando.node.secret import LINK_LABEL, derive_key
from pando.store.handshake import HANDSHAKE_DECODER, NONCE_BYTES, Dialer, Hello, LinkKind, Proof, Rejected, Welcome
from pando.store.link import encode_frame
from pando.store.protocol import PROTOCOL_VERSION

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

UPGRADE = b"GET /cluster/link HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: pando-link\r\n\r\n"
OVERSIZE = (limits.LINK_FRAME_BYTES_MAX + 1).to_bytes(4, "big")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    made = make_cluster(tmp_path_factory.mktemp("links"), free_base_port(3))
    yield made
    made.stop()


@pytest.fixture(params=["primary", "replica"])
def url(request, cluster):
    return cluster.node_urls[["primary", "replica"].index(request.param)]


@pytest.fixture(autouse=True)
def everybody_is_served_meanwhile(cluster):
    """Every test runs beside clients of all nodes; afterwards the processes and the links are the same as before."""
    before = [node.processes() for node in cluster.nodes]
    with served_meanwhile(cluster):
        yield
    assert [node.processes() for node in cluster.nodes] == before
    logs = "".join(path.read_text() for path in cluster.nodes[0].directory.parent.glob("logs/*.log"))
    assert "Traceback" not in logs and "process.failed" not in logs, logs[-3000:]


def receive_frame(sock):
    """The messages of the next frame; None when the link was closed."""
    data = b""
    while len(data) < 4 or len(data) < 4 + int.from_bytes(data[:4], "big"):
        part = sock.recv(1 if len(data) < 4 else 4 + int.from_bytes(data[:4], "big") - len(data))
        if not part:
            return None
        data += part
    return HANDSHAKE_DECODER.decode(data[4:])


def is_closed(sock):
    """Whether the other side closes without another word."""
    try:
        return sock.recv(65536) == b""
    except ConnectionResetError:
        return True


def upgraded(stack, url):
    """A connection after the upgrade; the store takes only so many at a time, and then says to come again."""

    def tried():
        sock = stack.enter_context(connect(url))
        sock.sendall(UPGRADE)
        head = b""
        while b"\r\n\r\n" not in head:
            head += sock.recv(1)
        assert head.startswith((b"HTTP/1.1 101 ", b"HTTP/1.1 503 ")), head
        return sock if b" 101 " in head else None

    return wait_until(tried, 10, "the store takes a link")


def dial(sock, key, kind=LinkKind.PEER):
    """Shakes hands; gives the last message."""
    dialer = Dialer(kind=kind, node="stranger", nonce=random_bytes(NONCE_BYTES), key=key)
    sock.sendall(encode_frame([dialer.hello]))
    (message,) = receive_frame(sock)
    if isinstance(message, Rejected):
        return message
    sock.sendall(encode_frame([dialer.receive(message)]))
    (message,) = receive_frame(sock)
    return message


def hello(**fields):
    values = {"version": PROTOCOL_VERSION, "kind": "peer", "node": "x", "nonce": bytes(NONCE_BYTES), **fields}
    return encode_frame([Hello(**values)])


# -- before the proof -------------------------------------------------------------------------------------------------


def test_an_address_that_is_no_page(url, cluster):
    assert ask(url, cluster.token(), path="/cluster/link", method="GET").status == 426
    assert ask(url, cluster.token(), b"x" * 100, path="/cluster/link").status == 405


@pytest.mark.parametrize(
    "garbage",
    [
        b"\xff" * 1000,
        b"\0" * 1000,
        os.urandom(5000),
        OVERSIZE,
        b"\xff\xff\xff\xff",
        b"GET / HTTP/1.1\r\n\r\n" * 100,
        (5000).to_bytes(4, "big") + bytes(5000),
        encode_frame([["not", "a", "message"]]),
        encode_frame([[999]]),
        encode_frame([]) + b"\xc1" * 10,
    ],
    ids=["ones", "zeros", "random", "oversize", "4 GiB", "http", "over 4 KiB", "no tag", "unknown tag", "bad msgpack"],
)
def test_garbage_on_a_link_is_cut_off(url, garbage):
    with ExitStack() as stack:
        sock = upgraded(stack, url)
        sock.sendall(garbage)
        wait_until(lambda: is_closed(sock), limits.LINK_AUTH_S + 5, "the link is closed")
        piped = stack.enter_context(connect(url))
        piped.sendall(UPGRADE + garbage)  # in one piece with the upgrade
        wait_until(lambda: is_closed(piped) or is_closed(piped), limits.LINK_AUTH_S + 5, "the link is closed")


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (hello(version=PROTOCOL_VERSION + 1), "upgrade one"),
        (hello(kind="web"), "unix socket"),
        (hello(kind="applier"), "unix socket"),
        (hello(kind="king"), "king"),
        (hello(nonce=b"short"), "nonce"),
        (hello(node="n" * 300), "256"),
        (encode_frame([Proof(bytes(32))]), "handshake"),
    ],
    ids=["version", "web", "applier", "unknown kind", "nonce", "long name", "proof first"],
)
def test_a_handshake_that_cannot_be_is_refused_with_the_reason(url, message, words):
    with ExitStack() as stack:
        sock = upgraded(stack, url)
        sock.sendall(message)
        (answer,) = receive_frame(sock)
        assert isinstance(answer, Rejected)
        assert words in answer.message
        assert is_closed(sock)


@pytest.mark.parametrize("kind", [LinkKind.PEER, LinkKind.REPLICA, LinkKind.CLI])
def test_who_does_not_know_the_secret_is_told_so(url, kind):
    with ExitStack() as stack:
        sock = upgraded(stack, url)
        answer = dial(sock, derive_key("another secret", LINK_LABEL), kind)
        assert isinstance(answer, Rejected)
        assert (answer.code, answer.retryable) == ("AUTH_INVALID", False)
        assert "PANDO_SECRET" in answer.message
        assert is_closed(sock)


def test_links_that_say_nothing_are_closed(url):
    with ExitStack() as stack:
        silent = [upgraded(stack, url) for _ in range(200)]
        half = [upgraded(stack, url) for _ in range(100)]
        for sock in half:
            sock.sendall(hello()[:-3])
        for sock in (*silent, *half):
            sock.settimeout(limits.LINK_AUTH_S + 5)
            assert is_closed(sock)


def test_many_strangers_at_once(cluster):
    def knock(number):
        with ExitStack() as stack:
            return dial(upgraded(stack, cluster.node_urls[number % 2]), derive_key(f"guess {number}", LINK_LABEL))

    with ThreadPoolExecutor(20) as pool:
        assert all(isinstance(answer, Rejected) for answer in pool.map(knock, range(200)))


# -- after the proof --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [LinkKind.PEER, LinkKind.REPLICA])
@pytest.mark.parametrize(
    "nonsense",
    [b"\xff" * 4, OVERSIZE, encode_frame([[999, 1]]), b"\0\0\0\x10" + b"\xc1" * 16, encode_frame([hello()])],
    ids=["4 GiB", "oversize", "unknown tag", "bad msgpack", "wrong type"],
)
def test_a_node_that_sends_nonsense_is_cut_off(url, cluster, kind, nonsense):
    with ExitStack() as stack:
        sock = upgraded(stack, url)
        answer = dial(sock, derive_key(cluster.secret, LINK_LABEL), kind)
        assert isinstance(answer, Welcome)
        sock.sendall(nonsense)
        wait_until(lambda: is_closed(sock), 10, "the link is closed")


def test_a_torn_frame_and_a_sudden_end(url, cluster):
    with ExitStack() as stack:
        for _ in range(50):
            sock = upgraded(stack, url)
            assert isinstance(dial(sock, derive_key(cluster.secret, LINK_LABEL)), Welcome)
            sock.sendall(b"\0\0\1\0half")
            sock.close()


# -- a replica of another cluster -------------------------------------------------------------------------------------


def test_a_replica_with_another_secret_says_why_it_cannot_serve(cluster, tmp_path):
    port = free_base_port(1)
    command = [sys.executable, "-m", "pando", "serve", "--dir", str(tmp_path / "stranger"), "--web", "1"]
    command += ["--http", f"127.0.0.1:{port}", "--primary", cluster.node_urls[0]]
    with (tmp_path / "log").open("wb") as log:
        stranger = subprocess.Popen(command, env={**os.environ, "PANDO_SECRET": "another secret"}, stderr=log)
    url = f"http://127.0.0.1:{port}"

    def health():
        try:
            with connect(url, 5) as sock:
                sock.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
                return read_reply(sock)
        except OSError:
            return None

    def says_why():
        answer = health()
        return answer is not None and answer.status == 503 and "secret" in answer.json["reason"]

    try:
        wait_until(says_why, 20, lambda: f"{health()} {(tmp_path / 'log').read_text()[-2000:]}")
        answer = ask(url, cluster.token(), json.dumps({"requests": []}).encode())
        assert answer.status in (401, 503), answer
    finally:
        stranger.terminate()
        stranger.wait(20)
    status = msgspec.json.decode(ask(cluster.node_urls[0], "", path="/cluster/status", method="GET").body)
    assert [found["node"] for found in status["replicas"]] == ["node2"]
    assert "secret" in (tmp_path / "log").read_text()
