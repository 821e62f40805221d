"""A stream goes on at any process of any node, in any encoding, over pipelines and cursors alike."""

import json
import urllib.request

import pytest
from served_nodes import served_nodes

from pando.testing import protobuf_kit as kit

pytestmark = [pytest.mark.slow, pytest.mark.full]

CURSORS = ("/v3/cursor", "/v3-protobuf/cursor")


def execute(sql):
    return {"type": "execute", "stmt": {"sql": sql}}


def post(nodes, role, path, body, database="shop"):
    """Send a pipeline or a cursor in the encoding that the path asks for."""
    if "protobuf" not in path:
        data = json.dumps(body).encode()
    else:
        data = kit.cursor_bytes(body) if path.endswith("cursor") else kit.pipeline_bytes(body)
    headers = {"Authorization": f"Bearer {nodes.token}"}
    if not path.startswith("/dev/"):
        headers["x-namespace"] = database
    url = f"http://{nodes.addresses[role]}{path}"
    with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=20) as answer:
        return answer.read()


def read(path, data):
    """Give the baton, and the first value of a row if there is one."""
    if path.endswith("/v3/cursor"):
        head, *entries = [json.loads(line) for line in data.splitlines()]
    elif path.endswith("cursor"):
        first, *rest = kit.read_prefixed(data)
        head = kit.read("CursorHead", first)
        entries = [kit.json_entry(kit.read("CursorEntry", entry)) for entry in rest]
    else:
        head = kit.read("PipelineAnswer", data) if "protobuf" in path else json.loads(data)
        entries = []
    rows = [entry["row"] for entry in entries if entry["type"] == "row"]
    return head.get("baton"), rows[0][0]["value"] if rows else None


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    with served_nodes(tmp_path_factory.mktemp("streams")) as started:
        started.post("primary", "/cluster/databases", {"name": "shop"})
        post(started, "primary", "/v2/pipeline", {"requests": [execute("create table t(a)"), {"type": "close"}]})
        yield started


@pytest.mark.parametrize("prefix", ["/dev/shop", ""])
@pytest.mark.parametrize("cursor", CURSORS)
@pytest.mark.parametrize(("first", "second"), [("primary", "replica"), ("replica", "primary"), ("replica", "replica")])
def test_transaction_over_nodes_and_encodings(nodes, first, second, cursor, prefix):
    """Several times, so that each process of a node gets a request now and then."""
    batch = {"steps": [{"stmt": {"sql": "select count(*) from t"}}]}
    _, before = read(cursor, post(nodes, "primary", cursor, {"batch": batch}))
    for number in range(1, 5):
        path = f"{prefix}/v3-protobuf/pipeline"
        asked = {"requests": [execute("begin immediate"), execute("insert into t values(1)")]}
        baton, _ = read(path, post(nodes, first, path, asked))
        path = prefix + cursor
        baton, counted = read(path, post(nodes, second, path, {"baton": baton, "batch": batch}))
        assert int(counted) == int(before) + number
        path = f"{prefix}/v3/pipeline"
        ended = post(nodes, first, path, {"baton": baton, "requests": [execute("commit"), {"type": "close"}]})
        assert read(path, ended)[0] is None
    _, after = read(cursor, post(nodes, "primary", cursor, {"batch": batch}))
    assert int(after) == int(before) + 4
