"""What docs/python-sql.md shows, runs: its blocks in order, against a node; its tables name what there is."""

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from test_docs_readme import Place

from pando import client
from pando.client.targets import Target

PAGE = (Path(__file__).parents[2] / "docs" / "python-sql.md").read_text()
BLOCKS = re.findall(r"^```python (try|sqlalchemy)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
ADDRESS = "127.0.0.1:8090"
PRINTED = ["1 one\n2\n", "True False [('a', 3), ('b', 7)]\n", "ONE\nTWO\nthree\n", "['Vienna']\n"]


@pytest.fixture
def place(tmp_path):
    made = Place(tmp_path)
    made.start(f"pando serve --dir ./node1 --http {ADDRESS}", ADDRESS)
    yield made
    made.stop()


@pytest.mark.slow
def test_the_examples_run(place):
    assert [kind for kind, _ in BLOCKS] == ["try", "try", "try", "sqlalchemy"]
    token = place.run("pando token --dir ./node1").stdout.strip()
    environment = {**os.environ, "PANDO_TOKEN": token, "PANDO_URL": f"pando://{place.own(ADDRESS)}"}
    for (kind, block), printed in zip(BLOCKS, PRINTED, strict=True):
        if kind == "sqlalchemy":
            pytest.importorskip("sqlalchemy")
        command = [sys.executable, "-W", "error", "-c", place.own(block)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == printed


def test_every_option_is_in_the_page_with_its_default():
    rows = dict(re.findall(r"^\| (`.*?`) \| (.*?) \|", PAGE, re.MULTILINE))
    rows = {name: default for names, default in rows.items() for name in re.findall(r"`(\w+)`", names)}
    for field in dataclasses.fields(Target):
        if field.name not in {"nodes", "token"}:
            shown = str(field.default).lower() if isinstance(field.default, bool) else str(field.default)
            shown = re.sub(r"\.0$", "", shown) or "the node's"
            assert rows[field.name].strip("`") == shown, field.name


def test_every_public_name_of_connections_and_cursors_is_in_the_page():
    exceptions = {name for name in dir(client) if isinstance(getattr(client, name), type)}
    for kind in (client.Connection, client.Cursor, client.AsyncConnection, client.AsyncCursor):
        names = {name for name in dir(kind) if not name.startswith("_")} - exceptions
        names -= {"setinputsizes", "setoutputsize", "connection", "terminate", "target"}
        missing = [name for name in sorted(names) if not re.search(rf"`(?:connection\.)?{name}\b", PAGE)]
        assert missing == []
