"""Every route and every header that a node knows is in docs/http.md, and nothing else."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

from pando.api import pipeline
from pando.api.app import OWN_ROUTES
from pando.api.cluster import cluster_routes
from pando.api.embedded_v1 import LOG as EMBEDDED_LOG
from pando.api.embedded_v1 import PROXY as EMBEDDED_PROXY
from pando.api.pull_updates import PATH as PULL_PATH
from pando.api.token_routes import token_routes
from pando.api.websocket import namespace_of

TEXT = (Path(__file__).parents[2] / "docs" / "http.md").read_text()
TABLE = re.findall(r"`(GET|POST|DELETE|PUT) (/[^`?\s]*)[^`]*`", TEXT.split("## Headers")[0])


def served():
    found = {
        (method, path)
        for path, methods in cluster_routes(SimpleNamespace(store=None, auth=None)).items()
        for method in methods
    }
    tokens = token_routes(lambda: None, None, "", None)
    found |= {(method, path) for path, methods in {**OWN_ROUTES, **tokens}.items() for method in methods}
    found |= {("POST", path) for path in ("/", *pipeline._POST_PATHS)}
    found |= {("GET", path) for path in pipeline._PROBE_PATHS} | {("POST", f"/{PULL_PATH}")}
    found |= {("GET", path) for path in ("/", "/dev/NAME") if namespace_of(path) in (None, "NAME")}
    found |= {("GET", path) for path in ("/info", "/export/G", "/sync/G/A/B")}
    found |= {("POST", f"/{service}/...") for service in (EMBEDDED_LOG, EMBEDDED_PROXY)}
    return found | {("POST", f"/dev/NAME{path}") for path in pipeline._DEV_PATHS}


def test_the_table_has_exactly_the_routes_that_are_served():
    assert set(TABLE) == served()


def test_every_header_that_is_read_is_explained():
    internal = {b"content-length", b"expect", pipeline.BATON_HOP}
    missing = [name for name in pipeline._HEADERS if name not in internal and name.decode() not in TEXT.lower()]
    assert missing == []


def test_the_examples_are_json():
    blocks = re.findall(r"^```json\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        json.loads(block)
