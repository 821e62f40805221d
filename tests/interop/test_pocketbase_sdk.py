"""The npm package `pocketbase`, unmodified, on a primary and on a replica: all that it does with collections, records,
sign-in, batches, settings, files and realtime.

One program (`pocketbase_sdk/main.mjs`) runs once against each node and prints a line for each check; here each line is
a test of its own. What is expected was compared with PocketBase 0.40.4, which passes all of it but for what Pando does
better: `+` of many at once, and the order of events.
"""

import fcntl
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from client_packages import need_npm_package
from served_nodes import SECRET, served_nodes

pytestmark = [pytest.mark.interop, pytest.mark.slow, pytest.mark.timeout(900)]

PROGRAM = Path(__file__).parent / "pocketbase_sdk"
SDK = ("pocketbase", "0.28.1")
EVENT_SOURCE = ("eventsource", "4.1.0")
NODE_MIN = 20
EMAIL, PASSWORD = "root@example.com", "rootpassword1"
RUN_S = 400
OTHER = {"primary": "replica", "replica": "primary"}
GROUPS = re.findall(r'"(\w+)"', (PROGRAM / "main.mjs").read_text().partition("const groups")[2].partition("];")[0])

STEPS = ["heard", "lost", "connected", "heard again"]
"""What a subscriber says whose node is killed after the first."""
RECONNECT_S = 60

NOT_YET: dict[str, str] = {}
"""Groups, or single checks, that are expected to fail, with the reason."""


def names_in(group):
    found = re.findall(r'^(?:check|live)\("([^"]+)"', (PROGRAM / f"{group}.mjs").read_text(), re.MULTILINE)
    return [f"{group}: {name}" for name in found]


CHECKS = [check for group in GROUPS for check in names_in(group)]


def parameter(check):
    reason = NOT_YET.get(check) or NOT_YET.get(check.partition(":")[0])
    marks = [pytest.mark.xfail(reason=reason, strict=True)] if reason else []
    return pytest.param(check, marks=marks, id=check.replace(" ", "_"))


@pytest.fixture(scope="module")
def packages():
    """Give the entries of the packages."""
    sdk, event_source = need_npm_package(*SDK), need_npm_package(*EVENT_SOURCE)
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.removeprefix("v").partition(".")[0]) < NODE_MIN:
        pytest.skip(f"{EVENT_SOURCE[0]} {EVENT_SOURCE[1]} needs Node {NODE_MIN}; here is {version.strip()}")
    return {
        "pocketbase": str(sdk / "dist" / "pocketbase.es.mjs"),
        "eventsource": str(event_source / "dist" / "index.js"),
    }


@pytest.fixture(scope="module")
def found(packages, tmp_path_factory):
    """Give what the program said on each node: role -> check -> error, "" for none.

    Each role is run by one worker for all; while one of them runs the first role, another one runs the second.
    """
    folder = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        folder = folder.parent
    for waits in (False, True):
        for role in OTHER:
            run_once(packages, folder / f"pocketbase_sdk_{role}", role, waits=waits)
    return {role: json.loads((folder / f"pocketbase_sdk_{role}.json").read_text()) for role in OTHER}


def run_once(packages, path, role, *, waits):
    """Leave what the program says in a file beside `path`; what another worker does is left to it, or waited for."""
    results = path.with_suffix(".json")
    with path.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
        except BlockingIOError:
            return
        if not results.exists():
            path.mkdir()
            results.write_text(json.dumps(run_on(packages, path, role)))


def run_on(packages, folder, role):
    with served_nodes(folder) as nodes:
        make_superuser(folder / "primary")
        urls = {role: f"http://{address}" for role, address in nodes.addresses.items()}
        return run(packages, url=urls[role], other=urls[OTHER[role]], prefix=role)


def make_superuser(folder):
    command = [sys.executable, "-m", "pando", "superuser", "upsert", EMAIL, PASSWORD, "--dir", str(folder)]
    environment = {**os.environ, "PANDO_SECRET": SECRET}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def run(packages, **options):
    """Run the program on one node; gives check -> error, and under "" what it said at its end if it failed."""
    argument = json.dumps({**packages, "email": EMAIL, "password": PASSWORD, **options})
    command = ["node", str(PROGRAM / "main.mjs"), argument]
    done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_S)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {line["check"]: line["error"] for line in lines} | {"": done.stderr[-2000:] if done.returncode else ""}


@pytest.mark.parametrize("check", [parameter(check) for check in CHECKS])
@pytest.mark.parametrize("role", OTHER)
def test_sdk(found, role, check):
    error = found[role].get(check, f"the program did not come to it: {found[role]['']}")
    assert not error, error


@pytest.mark.parametrize("role", OTHER)
def test_sdk_ran_to_its_end(found, role):
    assert found[role][""] == ""
    assert [*found[role]] == [*CHECKS, ""]


@pytest.mark.full
def test_sdk_with_requests_to_both_nodes_in_turn(packages, tmp_path):
    """As behind a balancer that sends each request to the next node."""
    with served_nodes(tmp_path) as nodes:
        make_superuser(tmp_path / "primary")
        url, other = (f"http://{address}" for address in nodes.addresses.values())
        check_all(run(packages, url=url, other=other, prefix="turns", inTurn=True))


def check_all(found):
    """Check that the program did all that it can do, and well."""
    assert {check: error for check, error in found.items() if error} == {}
    assert [*found] == [*CHECKS, ""]


@pytest.mark.parametrize("role", OTHER)
def test_subscribers_outlive_their_node(packages, tmp_path, role):
    """The SDK connects and subscribes again by itself; what happens from then on is heard."""
    with served_nodes(tmp_path) as nodes:
        make_superuser(tmp_path / "primary")
        options = {**packages, "email": EMAIL, "password": PASSWORD, "prefix": "kept"}
        argument = json.dumps({**options, "url": f"http://{nodes.addresses[role]}"})
        command = ["node", str(PROGRAM / "reconnecting.mjs"), argument]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
            timer = threading.Timer(RECONNECT_S, program.kill)
            timer.start()
            try:
                steps = [program.stdout.readline()]
                nodes.processes[role].kill()
                nodes.processes[role].wait()
                nodes.start(role)
                steps += program.stdout.readlines()
                assert [json.loads(step) for step in steps if step] == STEPS, program.stderr.read()[-2000:]
            finally:
                timer.cancel()
                program.kill()
