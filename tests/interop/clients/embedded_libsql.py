"""A local copy kept by PyPI's libsql, driven by lines of JSON: arguments are path, URL and token."""

import json
import sys

import libsql

path, url, token = sys.argv[1:4]
connection = None


def connect():
    global connection
    connection = libsql.connect(path, sync_url=url, auth_token=token)
    return True


def execute(sql, *args):
    cursor = connection.execute(sql, tuple(args))
    return [list(row) for row in cursor.fetchall()] if cursor.description else []


def transaction(*statements):
    """All of them, and what is seen before the end; nothing stays."""
    connection.execute("BEGIN")
    seen = [execute(sql) for sql in statements]
    connection.execute("ROLLBACK")
    return seen[-1]


ACTIONS = {
    "connect": connect,
    "sync": lambda: connection.sync() or True,
    "execute": execute,
    "commit": lambda: connection.commit() or True,
    "rolled_back": transaction,
    "close": lambda: connection.close() or True,
}

for line in sys.stdin:
    action, *arguments = json.loads(line)
    try:
        answer = {"ok": ACTIONS[action](*arguments)}
    except Exception as error:  # noqa: BLE001 - it is reported
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), flush=True)
