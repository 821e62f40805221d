"""Turso's clients, unmodified, with every node: those that sync a file of their own, and those without one.

The Python suite of sync is in no package: point TURSO_PYTHON_TESTS to `bindings/python` of a checkout to run it here.
The programs in `clients` do the same and more.
"""

import json
import os
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest
from client_packages import install, need_npm_package, need_pypi_package
from served_nodes import served_nodes

pytestmark = [pytest.mark.interop, pytest.mark.slow, pytest.mark.timeout(600)]

HERE = Path(__file__).parent
CLIENTS = HERE / "clients"
PYTHON_SYNC = ("pyturso", "0.8.3")
PYTHON_SERVERLESS = ("turso_serverless", "0.1.0")
NPM_SYNC = ("@tursodatabase/sync", "0.7.2")
NPM_SERVERLESS = ("@tursodatabase/serverless", "1.4.0")
ROLES = ("primary", "replica")
FEWER_ROLES = (pytest.param("primary", marks=pytest.mark.full), "replica")
_tables = count(1)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    with served_nodes(tmp_path_factory.mktemp("turso")) as started:
        yield started


def talk(command, nodes, role, folder):
    """Run a client's script; gives what it found, and its table."""
    table = f"turso_{next(_tables)}"
    arguments = [*map(str, command), f"http://{nodes.addresses[role]}", nodes.token, str(folder), table]
    result = subprocess.run(arguments, capture_output=True, text=True, timeout=240)
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout), table


@pytest.mark.parametrize("role", ROLES)
def test_python_sync(nodes, role, tmp_path):
    python = need_pypi_package(*PYTHON_SYNC)
    found, table = talk([python, CLIENTS / "turso_sync_py.py"], nodes, role, tmp_path)
    assert found == {
        "bootstrap": [300, True],
        "nothing new": [False, True, False],
        "pulled": [True, 290, True],
        "same": True,
        "before the last push": [["from one"], ["kept"]],
        "last push wins": [["from one"]],
        "schema": [[7 * 291]],
        "chunks": [291, True],
        "partial": [True, [290 * 1500 + 1, 0], True, True],
        "query": 291,
        "long poll": [True, True],
        "nothing in time": [False, True],
        "after all": [292, 292, True, True],
        "refused": True,
        "pushed after all": True,
    }
    for each in ROLES:
        nodes.wait_for_rows(each, f"SELECT count(*) FROM {table}", [["293"]])


@pytest.mark.parametrize("role", FEWER_ROLES)
def test_npm_sync(nodes, role, tmp_path):
    package = need_npm_package(*NPM_SYNC)
    found, table = talk(["node", CLIENTS / "turso_sync.mjs", module_of(package)], nodes, role, tmp_path)
    assert found == {
        "bootstrap": [300, True],
        "nothingNew": [False, True, False],
        "pulled": [True, 290, True],
        "lastPushWins": [{"name": "from one"}],
        "transaction": 292,
        "chunks": [292, True],
        "partial": [290 * 1500, True],
        "longPoll": [True, True, 293],
        "afterAll": [293, True],
    }
    for each in ROLES:
        nodes.wait_for_rows(each, f"SELECT count(*) FROM {table}", [["293"]])


@pytest.mark.parametrize("role", FEWER_ROLES)
def test_npm_serverless(nodes, role, tmp_path):
    package = need_npm_package(*NPM_SERVERLESS)
    command = ["node", CLIENTS / "turso_serverless.mjs", module_of(package), module_of(package, "./compat")]
    found, table = talk(command, nodes, role, tmp_path)
    assert found == {
        "inserted": [1, 1],
        "columns": ["name", "value", "0.5", "NULL", "id"],
        "values": ["first", [0, 255], 0.5, None, 1],
        "batch": 3,
        "failedBatch": "SQLITE_CONSTRAINT",
        "afterFailedBatch": 3,
        "transaction": 5,
        "failedTransaction": ["no", 5],
        "iterated": 125,
        "errors": ["SQLITE_ERROR", "SQL_PARSE_ERROR", "SQLITE_CONSTRAINT"],
        "wrongToken": True,
        "compat": [["n"], 2],
        "compatBatch": [1, 6],
        "afterParallel": 16,
    }
    for each in ROLES:
        nodes.wait_for_rows(each, f"SELECT count(*) FROM {table}", [["16"]])


def module_of(package, name="."):
    """Give the file that `import` takes, as the package says it."""
    described = json.loads((package / "package.json").read_text())
    target = described.get("exports", {}).get(name) or described["main"]
    while isinstance(target, dict):
        target = target.get("import") or target.get("node") or target["default"]
    return package / target


# -- suites of other parties ------------------------------------------------------------------------------------------


def run_suite(python, tests, environment, *files):
    """Run files of tests with pytest in the client's environment; gives what it said."""
    command = [str(python), "-m", "pytest", *files, "-q", "-p", "no:cacheprovider"]
    whole = {**os.environ, **environment}
    result = subprocess.run(command, cwd=tests, env=whole, capture_output=True, text=True, timeout=560)
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-1000:]
    return result.stdout


@pytest.mark.full
@pytest.mark.parametrize("role", ROLES)
def test_suite_of_the_python_serverless_driver(nodes, role):
    """Its tests are in its source package."""
    name, version = PYTHON_SERVERLESS
    python = need_suite(name, version, f"{name}=={version}", "pytest")
    source = python.parents[2] / "source"
    if not source.exists():
        command = [
            python,
            "-m",
            "pip",
            "download",
            "-q",
            "--no-deps",
            "--no-binary",
            name,
            "-d",
            source,
            f"{name}=={version}",
        ]
        if subprocess.run(list(map(str, command)), capture_output=True, timeout=200).returncode:
            pytest.skip(f"the source of {name} {version} cannot be had")
        subprocess.run(["tar", "xzf", f"{name}-{version}.tar.gz"], cwd=source, check=True)
    environment = {"TURSO_DATABASE_URL": f"http://{nodes.addresses[role]}", "TURSO_AUTH_TOKEN": nodes.token}
    said = run_suite(python, source / f"{name}-{version}", environment, "tests")
    assert "64 passed" in said, said


def need_suite(name, version, *packages):
    """Give the Python of an environment with what a suite needs."""
    commands = [
        [sys.executable, "-m", "venv", "venv"],
        ["venv/bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages],
    ]
    folder, reason = install(f"pypi/{name}-{version}-suite", commands)
    if folder is None:
        pytest.skip(f"{name} {version} cannot be installed: {reason}")
    return folder / "venv/bin/python"


@pytest.mark.full
def test_suite_of_the_python_sync_client(tmp_path):
    tests = os.environ.get("TURSO_PYTHON_TESTS")
    if not tests:
        pytest.skip("TURSO_PYTHON_TESTS does not name the folder bindings/python of a checkout of turso")
    name, version = PYTHON_SYNC
    python = need_suite(name, version, f"{name}=={version}", "pytest", "pytest-asyncio", "requests")
    server = tmp_path / "pando-sync-server"
    server.write_text(f'#!/bin/sh\nexec {sys.executable} {HERE / "turso_sync_server.py"} "$@"\n')
    server.chmod(0o755)
    files = ("tests/test_database_sync.py", "tests/test_database_sync_aio.py")
    said = run_suite(python, Path(tests), {"LOCAL_SYNC_SERVER": str(server), "TMPDIR": str(tmp_path)}, *files)
    assert "18 passed" in said, said
