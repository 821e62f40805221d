"""One round of everything that pyturso's sync does. Arguments: URL, token, folder, name of a table of its own."""

import json
import sys
import threading
import time
from pathlib import Path

import turso
import turso.sync


class Round:
    """Clients of one table, each with a file of its own, and what was found."""

    def __init__(self, url, token, folder, table):
        self.url = url
        self.token = token
        self.folder = Path(folder)
        self.table = table
        self.found = {}

    def connect(self, name, **options):
        name = f"{self.table}-{name}"
        path = str(self.folder / f"{name}.db")
        return turso.sync.connect(path, self.url, auth_token=self.token, client_name=name, **options)

    def count(self, connection):
        return connection.execute(f"SELECT count(*) FROM {self.table}").fetchone()[0]

    def names(self, connection, *ids):
        marks = ", ".join("?" * len(ids))
        return connection.execute(f"SELECT name FROM {self.table} WHERE id IN ({marks}) ORDER BY id", ids).fetchall()


def write(connection, *statements):
    for statement in statements:
        connection.execute(statement)
    connection.commit()


def check(connection):
    return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def push_and_pull(played, one):
    table, found, count = played.table, played.found, played.count
    write(one, f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, name TEXT, value BLOB)")
    write(one, *(f"INSERT INTO {table} VALUES ({n}, 'one', randomblob(1500))" for n in range(300)))
    one.push()
    two = played.connect("two")
    found["bootstrap"] = [count(two), check(two)]
    found["nothing new"] = [two.pull(), one.pull(), one.pull()]
    write(two, f"UPDATE {table} SET name = 'two' WHERE id < 10", f"DELETE FROM {table} WHERE id >= 290")
    two.push()
    found["pulled"] = [one.pull(), count(one), check(one)]
    rows = [each.execute(f"SELECT * FROM {table} ORDER BY id").fetchall() for each in (one, two)]
    found["same"] = rows[0] == rows[1]

    write(one, f"UPDATE {table} SET name = 'from one' WHERE id = 5")
    write(two, f"UPDATE {table} SET name = 'from two' WHERE id = 5")
    write(two, f"INSERT INTO {table} VALUES (1000, 'kept', x'00')")
    two.push()
    one.pull()  # its own change stays on top of what it pulled
    found["before the last push"] = played.names(one, 5, 1000)
    one.push()
    two.pull()
    found["last push wins"] = played.names(two, 5)
    write(one, f"ALTER TABLE {table} ADD COLUMN more DEFAULT 7", f"CREATE INDEX i_{table} ON {table} (name)")
    one.push()
    two.pull()
    found["schema"] = two.execute(f"SELECT sum(more) FROM {table}").fetchall()
    return two


def load_parts(played, one):
    table, found = played.table, played.found
    chunked = played.connect("chunked", pull_bytes_threshold=64 * 1024)
    found["chunks"] = [played.count(chunked), check(chunked)]
    first = turso.sync.PartialSyncPrefixBootstrap(length=128 * 1024)
    options = turso.sync.PartialSyncOpts(bootstrap_strategy=first, segment_size=16 * 1024)
    partial = played.connect("partial", partial_sync_experimental=options)
    before = partial.stats().network_received_bytes
    write(one, f"UPDATE {table} SET value = zeroblob(1500) WHERE id = 1")
    one.push()  # pages of a state before this one are still to be had
    lengths = partial.execute(f"SELECT sum(length(value)), sum(value = zeroblob(1500)) FROM {table}").fetchone()
    is_less = before < 400_000 < partial.stats().network_received_bytes
    found["partial"] = [is_less, lengths, partial.pull(), check(partial)]
    few = turso.sync.PartialSyncQueryBootstrap(query=f"SELECT * FROM {table} WHERE id < 3")
    options = turso.sync.PartialSyncOpts(bootstrap_strategy=few)
    found["query"] = played.count(played.connect("query", partial_sync_experimental=options))


def wait_for_commits(played, two):
    table, found = played.table, played.found
    waiting = played.connect("waiting", long_poll_timeout_ms=30_000)
    timer = threading.Timer(0.5, lambda: (write(two, f"INSERT INTO {table} (name) VALUES ('late')"), two.push()))
    timer.start()
    started = time.monotonic()
    found["long poll"] = [waiting.pull(), 0.2 < time.monotonic() - started < 20]
    timer.join()
    waiting.close()
    impatient = played.connect("impatient", long_poll_timeout_ms=300)
    started = time.monotonic()
    found["nothing in time"] = [impatient.pull(), 0.25 < time.monotonic() - started < 20]


def main(*arguments):
    played = Round(*arguments)
    table, found = played.table, played.found
    one = played.connect("one")
    two = push_and_pull(played, one)
    load_parts(played, one)
    wait_for_commits(played, two)
    one.pull()
    one.checkpoint()
    again = played.connect("one2")
    found["after all"] = [played.count(one), played.count(again), check(one), check(again)]
    found["refused"] = failure(lambda: turso.sync.connect(":memory:", played.url, auth_token="wrong"))
    write(one, f"INSERT INTO {table} VALUES (5000, 'x', 1, 1)")
    write(two, f"CREATE UNIQUE INDEX u_{table} ON {table} (id, name)")
    two.push()
    one.push()
    found["pushed after all"] = one.pull()
    print(json.dumps(found))


def failure(work):
    try:
        work()
    except turso.Error as error:
        return "401" in str(error)
    return "no error"


if __name__ == "__main__":
    main(*sys.argv[1:])
