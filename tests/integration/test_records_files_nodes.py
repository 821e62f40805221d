"""Files of records on real processes: sent to the replica, kept by the primary, read at both, gone with the record."""

import http.client
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cluster_kit import READY_S, free_base_port

from pando.node.local_cluster import LocalCluster

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "records"))
from records_site import MULTIPART, multipart

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

EMAIL, PASSWORD = "root@example.com", "rootpassword1"
OPEN = dict.fromkeys(("listRule", "viewRule", "createRule", "updateRule", "deleteRule"), "")


class Cluster(LocalCluster):
    """Two nodes, and how to ask them."""

    def __init__(self, directory):
        super().__init__(directory, nodes=2, http=f"127.0.0.1:{free_base_port(2)}")
        self.su = ""

    def ask(self, number, method, path, body=None, **headers):
        """Ask node `number`; gives status, headers and body."""
        parts = urlsplit(self.node_urls[number])
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
        given = {"Authorization": self.su, **{name.replace("_", "-"): value for name, value in headers.items()}}
        if isinstance(body, dict):
            body, given["Content-Type"] = json.dumps(body), "application/json"
        try:
            connection.request(method, f"/api/{path}", body, {name: value for name, value in given.items() if value})
            found = connection.getresponse()
            return found.status, dict(found.getheaders()), found.read()
        finally:
            connection.close()

    def json(self, number, method, path, body=None, **headers):
        status, _, text = self.ask(number, method, path, body, **headers)
        assert status == 200, (status, text[:500])
        return json.loads(text)

    def form(self, number, method, path, *parts):
        return self.json(number, method, path, multipart(*parts), Content_Type=MULTIPART)

    def storage(self, number):
        """Where a node keeps files."""
        return self.nodes[number].directory / "storage"

    def keys(self, number):
        found = [each for each in self.storage(number).rglob("*") if each.is_file()]
        return sorted(each.relative_to(self.storage(number)).as_posix() for each in found if each.suffix != ".attrs")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    made = Cluster(tmp_path_factory.mktemp("files"))
    made.start(READY_S)
    try:
        command = [sys.executable, "-m", "pando", "superuser", "upsert", EMAIL, PASSWORD]
        command += ["--dir", str(made.nodes[0].directory)]
        done = subprocess.run(
            command, env={**os.environ, "PANDO_SECRET": made.secret}, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr
        body = {"identity": EMAIL, "password": PASSWORD}
        made.su = made.json(0, "POST", "collections/_superusers/auth-with-password", body)["token"]
        fields = [{"name": "title", "type": "text"}, {"name": "doc", "type": "file", "maxSize": 50_000_000}]
        made.json(1, "POST", "collections", {"name": "docs", **OPEN, "fields": fields})
        yield made
    finally:
        made.stop()


def test_a_file_sent_to_the_replica_is_read_everywhere_and_goes_with_its_record(cluster):
    content = os.urandom(3_000_000)
    record = cluster.form(1, "POST", "collections/docs/records", ("title", "x"), ("doc", ("Big One.bin", content)))
    key = f"{record['collectionId']}/{record['id']}/{record['doc']}"
    assert cluster.keys(0) == [key]
    assert cluster.keys(1) == []
    path = f"files/docs/{record['id']}/{record['doc']}"
    for number in (1, 0):
        status, headers, body = cluster.ask(number, "GET", path)
        assert (status, headers["content-length"], body == content) == (200, "3000000", True)
    assert cluster.keys(1) == [key], "the replica keeps what it has fetched"
    tags = {cluster.ask(number, "HEAD", path)[1]["etag"] for number in (0, 1)}
    assert len(tags) == 1
    status, headers, body = cluster.ask(1, "GET", path, Range="bytes=10-19")
    assert (status, headers["content-range"], body) == (206, "bytes 10-19/3000000", content[10:20])
    assert cluster.ask(1, "DELETE", f"collections/docs/records/{record['id']}")[0] == 204
    assert [cluster.ask(number, "GET", path)[0] for number in (0, 1)] == [404, 404]
    assert cluster.keys(0) == []


def test_a_protected_file_needs_its_token_at_the_replica_too(cluster):
    fields = [{"name": "doc", "type": "file", "protected": True}]
    rules = {**OPEN, "viewRule": "@request.auth.id != ''"}
    cluster.json(1, "POST", "collections", {"name": "closed", **rules, "fields": fields})
    record = cluster.form(1, "POST", "collections/closed/records", ("doc", ("a.txt", b"closed")))
    path = f"files/closed/{record['id']}/{record['doc']}"
    token = cluster.json(1, "POST", "files/token")["token"]
    assert cluster.ask(1, "GET", path)[0] == 404
    assert cluster.ask(1, "GET", path, pando_node_file="1790000000.00")[0] == 404
    assert cluster.ask(1, "GET", f"{path}?token={token}")[::2] == (200, b"closed")


def test_a_refused_upload_at_the_replica_leaves_nothing(cluster):
    fields = [{"name": "doc", "type": "file", "maxSize": 1000}]
    cluster.json(1, "POST", "collections", {"name": "small", **OPEN, "fields": fields})
    before = cluster.keys(0)
    long = multipart(("doc", ("a.bin", bytes(3_000_000))))
    status, _, body = cluster.ask(1, "POST", "collections/small/records", long, Content_Type=MULTIPART)
    assert (status, json.loads(body)["data"]["doc"]["code"]) == (400, "validation_file_size_limit")
    too_long = multipart(("doc", ("a.bin", bytes(36_000_000))))
    for number in (1, 0):
        status, _, body = cluster.ask(number, "POST", "collections/small/records", too_long, Content_Type=MULTIPART)
        assert (status, json.loads(body)["status"]) == (413, 413)
    assert cluster.keys(0) == before


def test_who_breaks_off_leaves_nothing_and_is_no_failure(cluster):
    content = os.urandom(20_000_000)
    record = cluster.form(1, "POST", "collections/docs/records", ("doc", ("film.bin", content)))
    before = cluster.keys(0)
    body = multipart(("doc", ("half.bin", content)))
    head = f"POST /api/collections/docs/records HTTP/1.1\r\nhost: x\r\ncontent-type: {MULTIPART}\r\n"
    head += f"content-length: {len(body)}\r\n\r\n"
    get = f"GET /api/files/docs/{record['id']}/{record['doc']} HTTP/1.1\r\nhost: x\r\n\r\n"
    for number in (0, 1):
        parts = urlsplit(cluster.node_urls[number])
        with socket.create_connection((parts.hostname, parts.port), timeout=30) as sending:
            sending.sendall(head.encode() + body[: len(body) // 2])
        with socket.create_connection((parts.hostname, parts.port), timeout=30) as reading:
            reading.sendall(get.encode())
            assert reading.recv(1000).startswith(b"HTTP/1.1 200")
        status, _, found = cluster.ask(number, "GET", f"files/docs/{record['id']}/{record['doc']}")
        assert (status, found == content) == (200, True)
    assert cluster.keys(0) == before
    for node in cluster.nodes:
        log = node.supervisor.log_path.read_text()
        assert "request.failed" not in log and "Traceback" not in log, log[-3000:]
        assert not [each for each in (node.directory / ".pando" / "tmp").iterdir() if each.is_file()]
