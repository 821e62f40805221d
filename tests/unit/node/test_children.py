"""What the supervisor imports for its children."""

import json
import subprocess
import sys

from pando.node.children import PRELOADED, PRELOADED_BY_STORES, WEB_MODULE

SCRIPT = """
import importlib, json, sys, threading

for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
libraries = [name for name in ("apsw", "sqlite3", "_sqlite3") if name in sys.modules]
before = set(sys.modules)
importlib.import_module(sys.argv[2])
late = [name for name in sys.modules if name not in before]
print(json.dumps({"libraries": libraries, "threads": threading.active_count(), "late": late}))
"""


def test_children_inherit_almost_everything_but_no_sqlite_library_and_no_thread():
    asked = [sys.executable, "-c", SCRIPT, json.dumps(PRELOADED), WEB_MODULE]
    found = json.loads(subprocess.run(asked, check=True, capture_output=True, text=True).stdout)
    assert found["libraries"] == []
    assert found["threads"] == 1
    # What a web process imports by itself holds up each of its restarts.
    assert "apsw" in found["late"]
    assert len([name for name in found["late"] if name.startswith("pando.records")]) <= 3, found["late"]
    assert len(found["late"]) < 100, found["late"]


def test_stores_inherit_no_more_than_web_processes_do():
    assert set(PRELOADED_BY_STORES) < set(PRELOADED)
