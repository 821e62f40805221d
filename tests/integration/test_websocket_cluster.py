"""SQL over WebSocket with real processes: at every address of a cluster, and when what stands behind it dies."""

import json
import os
import signal
import socket
import time
from contextlib import ExitStack

import pytest
from cluster_kit import HEAL_S, running, wait_until
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.sync.client import connect

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ANSWER_S = 30.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with running(tmp_path_factory.mktemp("websockets")) as made:
        yield made


class Socket:
    """One connection with one stream."""

    def __init__(self, cluster, url):
        self._open = connect(url.replace("http", "ws", 1), subprotocols=["hrana3"], compression=None)
        self.connection = self._open.__enter__()
        self.last_id = 0
        self.connection.send(json.dumps({"type": "hello", "jwt": cluster.sql.token}))
        assert self.receive() == {"type": "hello_ok"}
        self.ask("open_stream", stream_id=1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._open.__exit__(None, None, None)

    def receive(self):
        return json.loads(self.connection.recv(timeout=ANSWER_S))

    def ask(self, kind, **fields):
        """Ask and wait; gives the response, or the error's code."""
        self.last_id += 1
        request = {"type": kind, **fields}
        self.connection.send(json.dumps({"type": "request", "request_id": self.last_id, "request": request}))
        answer = self.receive()
        assert answer["request_id"] == self.last_id
        return answer["error"]["code"] if answer["type"] == "response_error" else answer["response"]

    def sql(self, text):
        """Run a statement; gives its rows, or the error's code."""
        answer = self.ask("execute", stream_id=1, stmt={"sql": text})
        if isinstance(answer, str):
            return answer
        return [[cell.get("value") for cell in row] for row in answer["result"]["rows"]]


def opens(cluster, url):
    """Whether a connection can be opened and used."""
    try:
        with Socket(cluster, url) as found:
            return found.sql("SELECT 1") == [["1"]]
    except (OSError, WebSocketException):
        return False


def test_what_is_written_at_an_address_is_read_there_at_once(cluster):
    for number, url in enumerate(cluster.urls):
        with Socket(cluster, url) as client:
            for turn in range(20):
                key = f"ws {number} {turn}"
                assert client.sql(f"INSERT INTO kept VALUES ('{key}')") == []
                assert client.sql(f"SELECT key FROM kept WHERE key = '{key}'") == [[key]]


def test_a_transaction_at_every_address(cluster):
    for number, url in enumerate(cluster.urls):
        with Socket(cluster, url) as client:
            for end, expected in (("ROLLBACK", []), ("COMMIT", [[f"tx {number}"]])):
                assert client.sql("BEGIN IMMEDIATE") == []
                client.sql(f"INSERT INTO kept VALUES ('tx {number}')")
                assert client.sql(f"SELECT key FROM kept WHERE key = 'tx {number}'") == [[f"tx {number}"]]
                client.sql(end)
                assert client.sql(f"SELECT key FROM kept WHERE key = 'tx {number}'") == expected


def test_a_client_that_is_gone_does_not_hold_the_writer(cluster):
    for url in cluster.urls:
        with Socket(cluster, url) as client:
            client.sql("BEGIN IMMEDIATE")
            client.sql("INSERT INTO kept VALUES ('gone')")
            client.connection.socket.shutdown(socket.SHUT_RDWR)
            begin = time.monotonic()
            assert cluster.sql.works(url, f"INSERT INTO kept VALUES ('next {url}')")
            assert time.monotonic() - begin < 3.0  # an idle transaction would be taken away after 5 s only
        assert cluster.sql.run(url, "SELECT count(*) FROM kept WHERE key = 'gone'").rows == [["0"]]


def test_a_transaction_whose_store_died_is_over_and_the_stream_goes_on(cluster):
    with Socket(cluster, cluster.urls[1]) as client:
        client.sql("BEGIN IMMEDIATE")
        client.sql("INSERT INTO kept VALUES ('lost')")
        os.kill(cluster.nodes[0].processes()["store"], signal.SIGKILL)
        failures = [client.sql("INSERT INTO kept VALUES ('lost too')") for _ in range(2)]
        assert set(failures) <= {"STREAM_EXPIRED", "OUTCOME_UNKNOWN", "PRIMARY_UNAVAILABLE"}
        assert client.sql("SELECT 1") == client.sql("COMMIT") == failures[-1]
        wait_until(
            lambda: client.sql("INSERT INTO kept VALUES ('found')") == [], HEAL_S, "a write after the store died"
        )
        assert client.sql("SELECT key FROM kept WHERE key LIKE 'lost%'") == []


def test_a_connection_ends_with_its_web_process_and_another_can_be_opened(cluster):
    url = cluster.nodes[2].url
    before = cluster.nodes[2].processes()
    with ExitStack() as stack:
        clients = [stack.enter_context(Socket(cluster, url)) for _ in range(8)]
        for role, pid in before.items():
            if role.startswith("web-"):
                os.kill(pid, signal.SIGKILL)
        for client in clients:
            with pytest.raises(ConnectionClosed):
                client.sql("SELECT 1")
    wait_until(lambda: opens(cluster, url), HEAL_S, "a connection after the web processes died")


def test_a_node_that_stops_says_so(cluster):
    with Socket(cluster, cluster.nodes[2].url) as client:
        client.sql("BEGIN IMMEDIATE")
        os.kill(cluster.nodes[2].processes()["supervisor"], signal.SIGTERM)
        with pytest.raises(ConnectionClosed) as closed:
            client.receive()
        assert closed.value.rcvd.code == 1012
    assert cluster.sql.works(cluster.nodes[0].url, "INSERT INTO kept VALUES ('after')")
