"""The test suite of the Hrana client for TypeScript, by the author of the protocol, against a primary and a replica.

The client chooses the newest version and encoding that a server offers. To have it speak the others, a relay takes the
better ones out of its requests. Its sources come from GitHub, since the npm package has no tests.
"""

import json
import os
import shutil
import subprocess

import pytest
from client_packages import install
from relay import relay
from served_nodes import served_nodes

pytestmark = [pytest.mark.interop, pytest.mark.slow, pytest.mark.timeout(600)]

COMMIT = "94184ccfd84731cc7c151b7a5583549961c2b20e"
SOURCES = f"https://codeload.github.com/libsql/hrana-client-ts/tar.gz/{COMMIT}"
TESTS = 105
OFFERED = b"hrana3-protobuf,hrana3,hrana2,hrana1"
NO_PROTOBUF = (b"GET /v3-protobuf ", b"GET /v0-protobuf ")
NO_JSON = (b"GET /v3 ", b"GET /v0 ")
WAYS = {
    "ws-1-json": ("ws", 1, [(OFFERED, b"hrana1")]),
    "ws-2-json": ("ws", 2, [(OFFERED, b"hrana2")]),
    "ws-3-json": ("ws", 3, [(OFFERED, b"hrana3")]),
    "ws-3-protobuf": ("ws", 3, []),
    "http-2-json": ("http", 2, [NO_PROTOBUF, NO_JSON]),
    "http-3-json": ("http", 3, [NO_PROTOBUF]),
    "http-3-protobuf": ("http", 3, []),
}
SKIPPED = {"ws-1-json": 40, "ws-2-json": 24, "ws-3-json": 4, "ws-3-protobuf": 4, "http-2-json": 22}
"""Tests that the suite skips for a version or transport; two more over HTTP."""
NOT_WITH_THIS_CLIENT = "^(?!.*w/ cursor)"
"""It fails on the entry that ends a cursor in JSON over HTTP, which others need; it never asks for one by itself."""
CONFIG = {
    "extensionsToTreatAsEsm": [".ts"],
    "moduleNameMapper": {r"^(\.{1,2}/.*)\.js$": "$1"},
    "testMatch": ["**/src/__tests__/*.ts"],
    "testTimeout": 30_000,
    "transform": {r"^.+\.ts$": ["ts-jest", {"useESM": True, "isolatedModules": True, "diagnostics": False}]},
}


@pytest.fixture(scope="module")
def suite():
    """Give the folder of the sources, with what they need beside them."""
    missing = [name for name in ("node", "npm", "curl", "tar") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"not on PATH: {', '.join(missing)}")
    commands = [
        ["curl", "-fsSL", "--max-time", "60", "-o", "sources.tgz", SOURCES],
        ["tar", "xzf", "sources.tgz", "--strip-components=1"],
        ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
    ]
    folder, reason = install(f"npm/hrana-client-ts-{COMMIT[:12]}", commands)
    if folder is None:
        pytest.skip(f"the sources of hrana-client-ts cannot be had: {reason}")
    return folder


@pytest.fixture(scope="module")
def nodes(suite, tmp_path_factory):
    with served_nodes(tmp_path_factory.mktemp("hrana")) as started:
        yield started


def run_suite(suite, folder, url, token, version, names):
    """Run the tests, one after the other; gives jest's report."""
    report = folder / "report.json"
    command = ["node", "node_modules/jest/bin/jest.js", "--runInBand", "--ci", "--json", f"--outputFile={report}"]
    command += [f"--config={json.dumps({**CONFIG, 'rootDir': str(suite)})}", f"--testNamePattern={names}"]
    environment = {**os.environ, "VERSION": str(version), "URL": url, "JWT": token}
    environment["NODE_OPTIONS"] = "--experimental-vm-modules --no-warnings"
    ran = subprocess.run(command, cwd=suite, env=environment, capture_output=True, text=True, timeout=500)
    assert report.exists(), ran.stderr[-2000:]
    return json.loads(report.read_text())


def failures(report):
    return {
        test["fullName"]: test["failureMessages"][0][:300]
        for file in report["testResults"]
        for test in file["assertionResults"]
        if test["status"] == "failed"
    }


def check(suite, nodes, folder, role, way):
    scheme, version, changes = WAYS[way]
    names = NOT_WITH_THIS_CLIENT if way == "http-3-json" else ""
    with relay(nodes.addresses[role], changes) as address:
        report = run_suite(suite, folder, f"{scheme}://{address}", nodes.token, version, names)
    assert failures(report) == {}
    assert report["numTotalTests"] == TESTS
    if not names:
        assert report["numPassedTests"] == TESTS - SKIPPED.get(way, 2)


@pytest.mark.parametrize("way", ["http-3-protobuf", "ws-3-protobuf"])
def test_newest_version_on_a_primary(suite, nodes, tmp_path, way):
    check(suite, nodes, tmp_path, "primary", way)


@pytest.mark.full
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("role", ["primary", "replica"])
def test_all_versions_and_encodings(suite, nodes, tmp_path, role, way):
    if (role, way) in {("primary", "http-3-protobuf"), ("primary", "ws-3-protobuf")}:
        pytest.skip("run by itself")
    check(suite, nodes, tmp_path, role, way)
