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
from pathlib import Path

import pytest
from client_packages import need_npm_package
from served_nodes import SECRET, served_nodes

pytestmark = [pytest.mark.interop, pytest.mark.slow, pytest.mark.timeout(900)]

PROGRAM = Path(__file__).parent / "pocketbase_sdk"
SDK = ("pocketbase", "0.28.1")
EVENT_SOURCE = ("eventsource", "4.1.0")
EMAIL, PASSWORD = "root@example.com", "rootpassword1"
RUN_S = 400
OTHER = {"primary": "replica", "replica": "primary"}
GROUPS = re.findall(r'"(\w+)"', (PROGRAM / "main.mjs").read_text().partition("const groups")[2].partition("];")[0])

NOT_YET: dict[str, str] = {}
"""Groups, or single checks, that are expected to fail, with the reason."""


def checks():
    """Name each check as the program does, with its mark."""
    for group in GROUPS:
        for name in re.findall(r'^check\("([^"]+)"', (PROGRAM / f"{group}.mjs").read_text(), re.MULTILINE):
            check = f"{group}: {name}"
            reason = NOT_YET.get(check) or NOT_YET.get(group)
            marks = [pytest.mark.xfail(reason=reason, strict=True)] if reason else []
            yield pytest.param(check, marks=marks, id=check.replace(" ", "_"))


@pytest.fixture(scope="module")
def packages():
    """Give the entries of the packages."""
    sdk, event_source = need_npm_package(*SDK), need_npm_package(*EVENT_SOURCE)
    return {
        "pocketbase": str(sdk / "dist" / "pocketbase.es.mjs"),
        "eventsource": str(event_source / "dist" / "index.js"),
    }


@pytest.fixture(scope="module")
def found(packages, tmp_path_factory):
    """Give what the program said on each node: role -> check -> error, "" for none; run by one worker for all."""
    folder = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        folder = folder.parent
    results = folder / "pocketbase_sdk.json"
    with (folder / "pocketbase_sdk.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not results.exists():
            results.write_text(json.dumps(run_everywhere(packages, tmp_path_factory.mktemp("sdk"))))
        return json.loads(results.read_text())


def run_everywhere(packages, folder):
    with served_nodes(folder) as nodes:
        make_superuser(folder / "primary")
        urls = {role: f"http://{address}" for role, address in nodes.addresses.items()}
        return {role: run(packages, url=urls[role], other=urls[OTHER[role]], prefix=role) for role in OTHER}


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


@pytest.mark.parametrize("check", checks())
@pytest.mark.parametrize("role", OTHER)
def test_sdk(found, role, check):
    error = found[role].get(check, f"the program did not come to it: {found[role]['']}")
    assert not error, error


@pytest.mark.parametrize("role", OTHER)
def test_sdk_ran_to_its_end(found, role):
    names = [parameter.values[0] for parameter in checks()]
    assert [*found[role]] == [*names, ""] and found[role][""] == ""
