"""The description of the routes: complete, and true of each of them under whatever schemathesis makes of it."""

import json
import re
import sys
from pathlib import Path
from urllib.parse import urlencode

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "records"))
from records_site import Site

from pando.api.records_openapi import BODIES, PATHS, QUERIES, describe
from pando.api.records_table import ROUTES


def test_every_route_is_described_with_the_steps_of_its_path(tmp_path):
    site = Site(tmp_path).begin()
    told = site("GET", "openapi.json")
    site.close()
    assert told.status == 200 and told.json == describe(ROUTES)
    found = {
        f"{method.upper()} {re.sub(r'{[a-z]+}', '*', path).removeprefix('/api/')}": (path, operation)
        for path, operations in told.json["paths"].items()
        for method, operation in operations.items()
    }
    assert set(found) == set(ROUTES)
    for path, operation in found.values():
        named = [each["name"] for each in operation["parameters"] if each["in"] == "path"]
        assert re.findall(r"{([a-z]+)}", path) == named and len(set(named)) == len(named)
    identifiers = [operation["operationId"] for _, operation in found.values()]
    assert len(set(identifiers)) == len(identifiers)


def test_what_is_said_of_routes_is_said_of_known_ones():
    assert set(QUERIES) | set(BODIES) <= set(ROUTES)
    steps = {step for route in ROUTES for step in route.partition(" ")[2].split("/")}
    assert set(PATHS) <= steps


@pytest.mark.full
@pytest.mark.timeout(1200)
def test_schemathesis_finds_no_fault(tmp_path):
    schemathesis = pytest.importorskip("schemathesis", reason="pip install schemathesis")
    from hypothesis import HealthCheck, given, settings

    site = Site(tmp_path).begin()
    site.collection("things", {"name": "title", "type": "text"}, {"name": "n", "type": "number"})
    made = site.create("things", title="x")
    _, token = site.user("ann")
    known = {"collection": "things", "record": made["id"], "name": "a.txt"}
    schema = schemathesis.openapi.from_dict(site("GET", "openapi.json").json)
    asked = 0
    for result in schema.get_all_operations():
        operation = result.ok()

        @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(operation.as_strategy())
        def ask(case):
            nonlocal asked
            asked += 1
            for steps in (known, case.path_parameters or {}):
                path = case.path
                for name, value in {**known, **steps}.items():
                    path = path.replace("{" + name + "}", str(value))
                query = urlencode({name: str(value) for name, value in (case.query or {}).items()})
                body = _body(case.body)
                for who in ("", token):
                    answer = site(case.method, f"{path.removeprefix('/api/')}?{query}", body, token=who)
                    assert answer.status < 500, (case.method, path, query, answer.body)
                    if answer.status >= 400:
                        assert set(answer.json) == {"data", "message", "status"}

        ask()
    assert asked > 500
    assert site.log.lines == []
    site.close()


def _body(value):
    """What is sent; a value that is not set, or is no JSON, is nothing."""
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError):
        return None
