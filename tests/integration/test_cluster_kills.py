"""Three real nodes and a front on loopback: what holds while processes are killed."""

import http.client
import json
import os
import signal
import socket
import time

import pytest
from cluster_kit import free_base_port

from pando.cli.client import Client
from pando.errors import NotReady, PandoError
from pando.node.local_cluster import LocalCluster, is_healthy
from pando.node.secret import SECRET_FILE
from pando.node.tokens import make_token

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
NODES = 3


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    made = LocalCluster(tmp_path_factory.mktemp("up"), nodes=NODES, http=f"127.0.0.1:{free_base_port(NODES)}", web=2)
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def token(cluster):
    return make_token((cluster.nodes[0].directory.parent / SECRET_FILE).read_text().strip())


@pytest.fixture
def table(cluster, token, request):
    """A table of its own for each test."""
    name = f"t{abs(hash(request.node.name)) % 10**8}"
    sql = f"CREATE TABLE IF NOT EXISTS {name}(id INTEGER PRIMARY KEY, a)"
    again(lambda: execute(cluster.front_url, token, sql))
    return name


def execute(url, token, sql, bookmark=""):
    with Client(url, token=token) as client:
        client.bookmark = bookmark
        return client.execute(sql)


def again(ask, seconds=5.0):
    """Do as a client would: ask again for as long as the answer says that this may help."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return ask()
        except PandoError as error:
            if not error.retryable or time.monotonic() > deadline:
                raise


def all_urls(cluster):
    return [cluster.front_url, *cluster.node_urls]


def until(cluster, condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        cluster.wait(0.02)


def heal(cluster, seconds=10.0):
    until(cluster, lambda: all(is_healthy(url) for url in all_urls(cluster)), seconds)


def insert(url, token, table, value):
    """Give the bookmark of an insert that was acknowledged, or None."""
    try:
        with Client(url, token=token, timeout_s=10) as client:
            client.execute(f"INSERT INTO {table}(a) VALUES (?)", (value,))
            return client.bookmark
    except PandoError:
        return None


def values(url, token, table, bookmark=""):
    found = again(lambda: execute(url, token, f"SELECT a FROM {table} ORDER BY id", bookmark))
    return [row[0] for row in found.rows]


def test_a_write_at_any_address_is_read_at_every_address_with_its_bookmark(cluster, token, table):
    expected = []
    for number, url in enumerate(all_urls(cluster)):
        bookmark = insert(url, token, table, number)
        expected.append(number)
        for other in all_urls(cluster):
            assert values(other, token, table, bookmark) == expected


def test_a_transaction_goes_on_whatever_process_gets_its_next_request(cluster, token, table):
    for url in all_urls(cluster):
        batons = []
        answer = pipeline(url, token, None, "BEGIN")
        for number in range(6):
            batons.append(answer["baton"])
            answer = pipeline(url, token, answer["baton"], f"INSERT INTO {table}(a) VALUES ({number})")
            assert answer["results"][0]["type"] == "ok", answer
        answer = pipeline(url, token, answer["baton"], "COMMIT", close=True)
        assert answer["results"][0]["type"] == "ok", answer
        assert len(set(batons)) == 6
    bookmark = insert(cluster.front_url, token, table, "end")
    assert values(cluster.node_urls[2], token, table, bookmark) == [0, 1, 2, 3, 4, 5] * 4 + ["end"]


def pipeline(url, token, baton, sql, *, close=False):
    """One pipeline request on a connection of its own."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
    requests = [{"type": "execute", "stmt": {"sql": sql}}] + ([{"type": "close"}] if close else [])
    body = json.dumps({"baton": baton, "requests": requests})
    connection.request("POST", "/v2/pipeline", body, {"authorization": f"Bearer {token}"})
    response = connection.getresponse()
    text = response.read()
    connection.close()
    assert response.status == 200, text
    return json.loads(text)


@pytest.mark.parametrize("role", ["store", "applier", "web-0", "supervisor", "whole node"])
@pytest.mark.parametrize("number", [0, 1])
def test_killing_a_process_heals_and_loses_nothing_acknowledged(cluster, token, table, number, role):
    acknowledged = []
    node = cluster.nodes[number]
    for step in range(10):
        if step == 5:
            node.kill_all() if role == "whole node" else node.kill(role)
        if insert(cluster.front_url, token, table, step):
            acknowledged.append(step)
    heal(cluster, 5.0)
    until(cluster, lambda: insert(cluster.front_url, token, table, "after") is not None, 5.0)
    acknowledged.append("after")
    bookmark = insert(cluster.node_urls[0], token, table, "end")
    for url in all_urls(cluster):
        found = values(url, token, table, bookmark)
        assert [value for value in acknowledged if value not in found] == []
    assert cluster.restarts()[node.url] >= (role in ("supervisor", "whole node"))


def test_without_a_primary_writes_fail_at_once_and_reads_go_on(cluster, token, table):
    bookmark = insert(cluster.front_url, token, table, 1)
    replica = cluster.node_urls[1]
    assert values(replica, token, table, bookmark) == [1]
    primary = cluster.nodes[0]
    pids = primary.processes()
    os.kill(pids["supervisor"], signal.SIGSTOP)
    try:
        os.kill(pids["store"], signal.SIGKILL)
        codes = set()

        def is_refused():
            began = time.monotonic()
            with Client(replica, token=token) as client:
                try:
                    client.execute(f"INSERT INTO {table}(a) VALUES (2)")
                except PandoError as error:
                    codes.add(error.code)
                    assert error.code == "OUTCOME_UNKNOWN" or error.retryable
            assert time.monotonic() - began < 1.0
            return "PRIMARY_UNAVAILABLE" in codes

        until(cluster, is_refused, 5.0)
        assert values(replica, token, table) == [1]
    finally:
        os.kill(pids["supervisor"], signal.SIGCONT)
    heal(cluster)


def test_bad_requests_get_clear_errors(cluster, token):
    url = cluster.front_url
    for used, sql, status, code in (
        ("wrong", "SELECT 1", 401, "AUTH_JWT_INVALID"),
        (make_token("another secret"), "SELECT 1", 401, "AUTH_JWT_INVALID"),
    ):
        with Client(url, token=used) as client, pytest.raises(PandoError) as caught:
            client.execute(sql)
        assert (caught.value.status, caught.value.code) == (status, code)
    with Client(url, token=token) as client:
        with pytest.raises(PandoError):
            client.execute("SELEC 1")
        with pytest.raises(PandoError) as caught:
            client.execute("SELECT 1", database="nothing_here")
        assert caught.value.status == 404
        assert client.execute("SELECT 1").rows == [(1,)]


def test_a_body_of_100_megabytes_gets_an_error_while_others_are_served(cluster, token):
    for url in (cluster.node_urls[1], cluster.front_url):
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            size = 100 << 20
            lines = (
                "POST /v2/pipeline HTTP/1.1",
                "host: x",
                f"authorization: Bearer {token}",
                f"content-length: {size}",
            )
            connection.sendall("\r\n".join((*lines, "", "")).encode())
            sent = 0
            try:
                while sent < size:
                    sent += connection.send(bytes(1 << 20))
            except ConnectionError:
                pass
            assert connection.recv(64).startswith(b"HTTP/1.1 413")
        assert values_of_one(url, token) == [(1,)]


def values_of_one(url, token):
    with Client(url, token=token) as client:
        return client.execute("SELECT 1").rows


def test_status_names_every_node_from_every_node(cluster):
    for url in cluster.node_urls:
        with Client(url) as client:
            view = client.get_json("/cluster/status")
        assert {one["url"] for one in view["nodes"]} == set(cluster.node_urls)
        assert {"supervisor", "store", "applier", "web-0", "web-1"} == set(view["processes"])


def test_everything_killed_at_once_comes_back_with_every_acknowledged_row(cluster, token, table):
    acknowledged = [step for step in range(20) if insert(cluster.front_url, token, table, step)]
    cluster.kill_everything()
    heal(cluster, 20.0)
    bookmark = insert(cluster.node_urls[0], token, table, "end")
    for url in all_urls(cluster):
        assert values(url, token, table, bookmark) == [*acknowledged, "end"]


def test_a_second_cluster_in_the_directory_is_refused(cluster):
    second = LocalCluster(cluster.nodes[0].directory.parent, nodes=1, http=f"127.0.0.1:{free_base_port(1)}")
    with pytest.raises(NotReady, match=str(os.getpid())):
        second.start()


def test_a_replica_without_its_directory_comes_back_by_itself(cluster, token, table):
    bookmark = insert(cluster.front_url, token, table, 1)
    node = cluster.nodes[2]
    node.kill_all()
    until(cluster, lambda: not is_healthy(node.url))
    for path in sorted(node.directory.rglob("*"), reverse=True):
        if path.is_file() and path.name not in ("secret", "lock"):
            path.unlink(missing_ok=True)
    heal(cluster, 20.0)
    assert values(node.url, token, table, bookmark) == [1]


def test_a_stopped_cluster_goes_on_where_it_was(tmp_path):
    port = free_base_port(1)
    cluster = LocalCluster(tmp_path, nodes=1, http=f"127.0.0.1:{port}")
    cluster.start()
    token = make_token((tmp_path / SECRET_FILE).read_text().strip())
    with Client(cluster.front_url, token=token) as client:
        client.execute("CREATE TABLE t(a)")
        client.execute("INSERT INTO t VALUES (7)")
    pids = cluster.nodes[0].processes()
    cluster.stop()
    for pid in pids.values():
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    again = LocalCluster(tmp_path, nodes=1, http=f"127.0.0.1:{port}")
    again.start()
    try:
        with Client(again.front_url, token=token) as client:
            assert client.execute("SELECT a FROM t").rows == [(7,)]
    finally:
        again.stop()
