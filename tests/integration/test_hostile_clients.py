"""Clients that do what they should not: each gets a clear error, nothing breaks, and others are served meanwhile."""

import json
import resource
import selectors
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pytest
from cluster_kit import free_base_port, wait_until
from hostile_kit import (
    ask,
    connect,
    forget_peak,
    make_cluster,
    peak_bytes,
    pipeline,
    read_reply,
    request_head,
    resident_bytes,
    served_meanwhile,
)

from pando import limits
from pando.node.http_protocol import HEAD_S, SWEEP_S
from pando.node.tokens import make_token

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

MIB = 1 << 20
BODY = 100 * MIB
GROWTH_MAX = 20 * MIB
CONNECTIONS = 10_000
SELECT = pipeline("SELECT 1")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    made = make_cluster(tmp_path_factory.mktemp("hostile"), free_base_port(3))
    yield made
    made.stop()


@pytest.fixture(params=["front", "primary", "replica"])
def url(request, cluster):
    return [cluster.front_url, *cluster.node_urls][["front", "primary", "replica"].index(request.param)]


@pytest.fixture(scope="module")
def token(cluster):
    return cluster.token()


@pytest.fixture(autouse=True)
def everybody_is_served_afterwards(cluster):
    """Whatever a test did, all processes are the same as before, and all nodes serve."""
    before = [node.processes() for node in cluster.nodes]
    yield
    with served_meanwhile(cluster, at_least=1):
        pass
    assert [node.processes() for node in cluster.nodes] == before
    logs = "".join(path.read_text() for path in cluster.nodes[0].directory.parent.glob("logs/*.log"))
    assert "Traceback" not in logs and "request.failed" not in logs, logs[-3000:]


# -- who asks ---------------------------------------------------------------------------------------------------------


def test_no_token(url):
    ask(url, "", SELECT).require_error(401, "AUTH_HEADER_NOT_FOUND")


@pytest.mark.parametrize("wrong", ["x", "a.b.c", "ey" * 3000, "\xff\xfe", "Bearer x"])
def test_wrong_tokens(url, wrong):
    answer = ask(url, wrong, SELECT)
    answer.require_error(401, "AUTH_JWT_INVALID")
    assert wrong not in answer.json["message"]


def test_a_token_of_another_cluster_and_one_that_has_expired(url, cluster):
    ask(url, make_token("another secret"), SELECT).require_error(401, "AUTH_JWT_INVALID")
    ask(url, make_token(cluster.secret, life_s=-60), SELECT).require_error(401, "AUTH_JWT_EXPIRED")


def test_a_read_only_token_reads_and_does_not_write(url, cluster, token):
    reader = make_token(cluster.secret, read_only=True)
    assert ask(url, reader, SELECT).status == 200
    for sql in ("INSERT INTO kept VALUES ('no')", "DELETE FROM kept", "BEGIN IMMEDIATE", "CREATE TABLE no (a)"):
        ask(url, reader, pipeline(sql)).require_error(403, "FORBIDDEN")
    mixed = json.loads(ask(url, reader, pipeline("BEGIN", "INSERT INTO kept VALUES ('no')", "COMMIT")).body)
    assert "no" not in str(
        ask(url, token, pipeline("SELECT * FROM kept WHERE key = 'no'")).json["results"][0]["response"]["result"][
            "rows"
        ]
    ), mixed


def test_a_token_of_another_database(url, cluster):
    other = make_token(cluster.secret, database="other")
    ask(url, other, SELECT).require_error(404, "UNKNOWN_DATABASE")  # what exists is none of its business


@pytest.mark.parametrize("path", ["/cluster/databases", "/cluster/verify", "/cluster/export"])
def test_cluster_routes_want_an_administrator(url, cluster, path):
    ask(url, "", path=path, method="GET").require_error(401, "AUTH_HEADER_NOT_FOUND")
    reader = make_token(cluster.secret, read_only=True)
    ask(url, reader, path=path, method="GET").require_error(403, "FORBIDDEN")


# -- what is asked ----------------------------------------------------------------------------------------------------

BROKEN = {
    "empty": b"",
    "torn": b'{"requests": [',
    "list": b"[]",
    "not utf-8": b'{"requests": [{"type": "execute", "stmt": {"sql": "\xff\xfe"}}]}',
    "deep": b'{"requests": ' + b"[" * 100_000,
    "deep condition": json.dumps(
        {"requests": [{"type": "batch", "batch": {"steps": [{"stmt": {"sql": "SELECT 1"}, "condition": "DEEP"}]}}]}
    )
    .encode()
    .replace(b'"DEEP"', b'{"type": "not", "cond": ' * 5000 + b'{"type": "is_autocommit"}' + b"}" * 5000),
    "unknown request": b'{"requests": [{"type": "format_disk"}]}',
    "no type": b'{"requests": [{}]}',
    "text for a list": b'{"requests": "all"}',
    "number for sql": b'{"requests": [{"type": "execute", "stmt": {"sql": 7}}]}',
    "huge integer": b'{"requests": [{"type": "execute", "stmt": {"sql": "SELECT ?", "args":'
    b' [{"type": "integer", "value": "99999999999999999999999"}]}}]}',
    "bad base64": b'{"requests": [{"type": "execute", "stmt": {"sql": "SELECT ?", "args":'
    b' [{"type": "blob", "base64": "?"}]}}]}',
    "too many requests": b'{"requests": ['
    + b'{"type": "close"},' * limits.PIPELINE_REQUESTS_MAX
    + b'{"type": "close"}]}',
    "forged baton": b'{"baton": "AAAA", "requests": []}',
    "unknown sql_id": b'{"requests": [{"type": "execute", "stmt": {"sql_id": 4}}]}',
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_requests(url, token, name):
    answer = ask(url, token, BROKEN[name])
    assert answer.status == 400, (answer.status, answer.body[:300])
    assert len(answer.body) > 10


@pytest.mark.parametrize(
    "sql",
    [
        "SELEKT 1",
        "",
        "SELECT",
        "SELECT 1; SELECT 2",
        "SELECT * FROM not_there",
        "SELECT \0",
        "SELECT 'a",
        "SELECT " + "(" * 5000,
        "ATTACH '/etc/passwd' AS x",
        "SELECT load_extension('x')",
        "VACUUM INTO '/tmp/x'",
        "PRAGMA writable_schema=1",
        "SELECT " + "x" * (2 * MIB),
        "SELECT zeroblob(2000000000)",
        "SELECT ?",
        "INSERT INTO kept VALUES (1, 2, 3)",
    ],
    ids=lambda sql: sql[:20].replace("\0", "NUL"),
)
def test_bad_sql_is_an_error_of_the_statement(url, token, sql):
    answer = ask(url, token, pipeline(sql, "SELECT 42"))
    assert answer.status == 200, (answer.status, answer.body[:300])
    first, second, _closed = answer.json["results"]
    assert first["type"] == "error" and first["error"]["message"] and first["error"]["code"], first
    assert second["response"]["result"]["rows"] == [[{"type": "integer", "value": "42"}]]


def test_an_unknown_database(url, token):
    message = ask(url, token, SELECT, "x-namespace: nobody_made_this").require_error(404, "UNKNOWN_DATABASE")
    assert "nobody_made_this" in message
    answer = ask(url, token, SELECT, path="/dev/nobody_made_this/v2/pipeline")
    answer.require_error(404, "UNKNOWN_DATABASE")


@pytest.mark.parametrize("name", ["../../etc/passwd", "a b", "-x", "x" * 129, "%2e%2e", "näme", ".", "a/b", "x.db"])
def test_names_that_no_database_can_have(url, token, name):
    ask(url, token, SELECT, f"x-namespace: {name}").require_error(400, "INVALID_DATABASE_NAME")
    answer = ask(url, token, json.dumps({"name": name}).encode(), path="/cluster/databases")
    answer.require_error(400, "INVALID_DATABASE_NAME")


# -- bookmarks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "forged", ["x", "data.1", "data.-1.5", "data.1.1.1", "data." + "f" * 13 + ".1", "\xff", "a" * 5000]
)
def test_what_is_no_bookmark_is_refused(url, token, forged):
    ask(url, token, SELECT, f"Pando-Bookmark: {forged}").require_error(400, "INVALID_BOOKMARK")


FORGED = [
    "data.1.ffffffffffffffff",
    "data.1.7fffffffffffffff",
    "data.ffffffffffff.1",
    "data.1.ffff",
    "other.1.ffffffff",
]


@pytest.mark.parametrize("forged", FORGED)
def test_a_forged_bookmark_is_waited_for_in_bounds(url, token, forged):
    begin = time.monotonic()
    answer = ask(url, token, SELECT, f"Pando-Bookmark: {forged}")
    assert time.monotonic() - begin < limits.BOOKMARK_WAIT_S * 2 + 1
    if answer.status != 200:
        answer.require_error(504, "BOOKMARK_TIMEOUT", retryable=True)


def test_an_index_that_no_node_will_reach_is_waited_for_in_bounds(url, token):
    for index in (2**63 - 1, 2**64 - 1):
        stmt = {"sql": "SELECT 1", "replication_index": str(index)}
        answer = ask(url, token, json.dumps({"requests": [{"type": "execute", "stmt": stmt}]}).encode())
        assert answer.status in (200, 400, 504), (answer.status, answer.body[:300])


def test_hundreds_who_wait_for_forged_bookmarks_tie_up_nobody(cluster, token):
    def forge(number):
        url = cluster.node_urls[number % 2]
        return ask(url, token, SELECT, f"Pando-Bookmark: {FORGED[number % 4]}").status

    with served_meanwhile(cluster, at_least=10), ThreadPoolExecutor(100) as pool:
        assert set(pool.map(forge, range(300))) <= {200, 504}


# -- large bodies -----------------------------------------------------------------------------------------------------


@contextmanager
def bounded_memory(cluster, peak=GROWTH_MAX):
    """No process of the cluster holds much more memory than before; `peak`: how much more for a moment."""
    pids = {f"{node.name} {role}": pid for node in cluster.nodes for role, pid in node.processes().items()}
    pids["front"] = cluster.front_pid
    before = {}
    for name, pid in pids.items():
        forget_peak(pid)
        before[name] = resident_bytes(pid)
    yield

    def grown(measure):
        return {name: (measure(pid) - before[name]) / MIB for name, pid in pids.items()}

    at_most = grown(peak_bytes)
    assert max(at_most.values()) < peak / MIB, f"MiB at the peak: {at_most}"
    # The answer comes before the connection is closed, which is what gives up a body.
    wait_until(
        lambda: max(grown(resident_bytes).values()) < GROWTH_MAX / MIB, 20, lambda: f"{grown(resident_bytes)} MiB"
    )


def send_much(sock, parts):
    """Sends until all is sent or the other side closes, as clients do that read the answer afterwards."""
    try:
        for part in parts:
            sock.sendall(part)
    except (BrokenPipeError, ConnectionResetError):
        pass


def chunked(total, size=64 * 1024):
    part = b"%x\r\n%b\r\n" % (size, bytes(size))
    for _ in range(total // size):
        yield part
    yield b"0\r\n\r\n"


def test_a_body_that_says_it_is_too_large(cluster, url, token):
    with served_meanwhile(cluster), bounded_memory(cluster), connect(url) as sock:
        sock.sendall(request_head(token, f"content-length: {BODY}"))
        send_much(sock, (bytes(MIB) for _ in range(BODY // MIB)))
        message = read_reply(sock).require_error(413, "REQUEST_TOO_LARGE")
    assert str(limits.BODY_SIZE_BYTES_MAX) in message


def test_a_body_that_says_it_is_too_large_and_asks_first(url, token):
    with connect(url) as sock:
        sock.sendall(request_head(token, f"content-length: {BODY}", "expect: 100-continue"))
        answer = read_reply(sock)
        if answer.status == 100:  # the front does not know what the node takes
            send_much(sock, (bytes(MIB) for _ in range(BODY // MIB)))
            answer = read_reply(sock)
        answer.require_error(413, "REQUEST_TOO_LARGE")


def test_a_body_of_unknown_length_that_is_too_large(cluster, url, token):
    peak = limits.BODY_SIZE_BYTES_MAX + GROWTH_MAX  # only past the limit it is known that it is too large
    with served_meanwhile(cluster), bounded_memory(cluster, peak), connect(url) as sock:
        sock.sendall(request_head(token, "transfer-encoding: chunked"))
        send_much(sock, chunked(BODY))
        read_reply(sock).require_error(413, "REQUEST_TOO_LARGE")


def test_many_large_bodies_at_once(cluster, token):
    def send(number):
        with connect(cluster.node_urls[number % 2], timeout_s=60) as sock:
            sock.sendall(request_head(token, "transfer-encoding: chunked"))
            send_much(sock, chunked(BODY))
            return read_reply(sock)

    with served_meanwhile(cluster), ThreadPoolExecutor(4) as pool:
        for answer in pool.map(send, range(8)):
            answer.require_error(413, "REQUEST_TOO_LARGE")


def test_large_bodies_without_a_token_are_not_read(cluster, url):
    with bounded_memory(cluster), connect(url) as sock:
        sock.sendall(request_head("", f"content-length: {BODY}") + bytes(4096))
        read_reply(sock).require_error(401, "AUTH_HEADER_NOT_FOUND")


@pytest.mark.parametrize("length", ["-1", "x", "1e3", "99999999999999999999999", "5, 6"])
def test_lengths_that_cannot_be(url, token, length):
    with connect(url) as sock:
        sock.sendall(request_head(token, f"content-length: {length}"))
        sock.shutdown(socket.SHUT_WR)
        answer = read_reply(sock)
    assert answer is None or answer.status in (400, 413), answer


# -- headers ----------------------------------------------------------------------------------------------------------


def test_a_request_header_without_end(url, token):
    with connect(url) as sock:
        send_much(sock, (b"GET /v2 HTTP/1.1\r\nhost: x\r\nx-y: ", *(b"a" * 8192 for _ in range(100))))
        answer = read_reply(sock)
    assert answer.status in (400, 431), answer
    assert answer.body


def test_garbage_instead_of_http(url):
    for garbage in (
        b"\x00\x01\x02\xff" * 100,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"HELO x\r\n\r\n",
        b"\r\n" * 500,
    ):
        with connect(url) as sock:
            sock.sendall(garbage)
            sock.shutdown(socket.SHUT_WR)
            answer = read_reply(sock)
        assert answer is None or answer.status == 400, answer


@pytest.mark.full
@pytest.mark.parametrize("node", [0, 1], ids=["primary", "replica"])
def test_headers_that_trickle_in_are_cut_off_and_others_are_served(cluster, node):
    """Slow loris: connections that send a header byte now and then get an answer and are closed."""
    url = cluster.node_urls[node]
    with ExitStack() as stack, served_meanwhile(cluster):
        slow = [stack.enter_context(connect(url)) for _ in range(300)]
        for sock in slow:
            sock.sendall(b"POST /v2/pipeline HTTP/1.1\r\nhost: x\r\nx-slow: ")
            sock.setblocking(False)
        deadline = time.monotonic() + HEAD_S + 3 * SWEEP_S
        answered = set()

        def trickle():
            for sock in slow:
                if sock not in answered:
                    try:
                        sock.send(b"a")
                        if sock.recv(1, socket.MSG_PEEK):
                            answered.add(sock)
                    except BlockingIOError:
                        continue
                    except OSError:
                        answered.add(sock)
            return len(answered) == len(slow)

        wait_until(trickle, deadline - time.monotonic(), lambda: f"{len(answered)} of {len(slow)} are closed")
        for sock in slow:
            sock.setblocking(True)
            try:
                answer = read_reply(sock)
            except ConnectionResetError:
                continue  # its byte crossed our answer
            answer.require_error(408, "REQUEST_TIMEOUT", retryable=True)


# -- many connections -------------------------------------------------------------------------------------------------


@pytest.fixture
def many_files():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS + 1000
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"this system lets a process open {hard} files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def closed_ones(sockets):
    """Those that the node has answered or closed."""
    with selectors.DefaultSelector() as selector:
        for sock in sockets:
            selector.register(sock, selectors.EVENT_READ)
        return [key.fileobj for key, _ in selector.select(0)]


def hold_open(cluster, url, first_bytes):
    """10,000 connections that say no more than that; gives the answers of those that were sent away."""
    with ExitStack() as stack:
        held = []
        with served_meanwhile(cluster, at_least=20):
            for _ in range(CONNECTIONS):
                sock = stack.enter_context(connect(url))
                if first_bytes:
                    sock.sendall(first_bytes)
                held.append(sock)
            too_many = CONNECTIONS - limits.CONNECTIONS_MAX
            wait_until(lambda: len(closed_ones(held)) >= too_many, 10, "those past the limit are sent away")
        answers = []
        for sock in closed_ones(held):
            try:
                answers.append(read_reply(sock))
            except ConnectionResetError:
                assert first_bytes  # unread bytes at the other end
        return answers


@pytest.mark.full
def test_10000_idle_connections(cluster, url, many_files):
    for answer in hold_open(cluster, url, b""):
        answer.require_error(503, "OVERLOADED", retryable=True)


@pytest.mark.full
def test_10000_connections_in_the_middle_of_a_body(cluster, token, many_files):
    """None can be told from a slow client here: new ones may be refused, but with a clear answer, and not for long."""
    url = cluster.node_urls[1]
    for answer in hold_open(cluster, url, request_head(token, "content-length: 1000") + b"{"):
        answer.require_error(503, "OVERLOADED", retryable=True)
