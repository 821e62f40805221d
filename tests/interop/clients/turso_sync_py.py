"""One round of everything that pyturso's sync does. Arguments: URL, token, folder, name of a table of its own."""

import json
import sys
import threading
import time
from pathlib import Path

import turso
import turso.sync


def main(url, token, folder, table):
    found = {}

    def connect(name, **options):
        path = str(Path(folder) / f"{table}-{name}.db")
        return turso.sync.connect(path, url, auth_token=token, client_name=f"{table}-{name}", **options)

    def count(connection):
        return connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]

    def write(connection, *statements):
        for statement in statements:
            connection.execute(statement)
        connection.commit()

    def check(connection):
        return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]

    one = connect("one")
    write(one, f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, name TEXT, value BLOB)")
    write(one, *(f"INSERT INTO {table} VALUES ({n}, 'one', randomblob(1500))" for n in range(300)))
    one.push()
    two = connect("two")
    found["bootstrap"] = [count(two), check(two)]
    found["nothing new"] = [two.pull(), one.pull(), one.pull()]

    write(two, f"UPDATE {table} SET name = 'two' WHERE id < 10", f"DELETE FROM {table} WHERE id >= 290")
    two.push()
    found["pulled"] = [one.pull(), count(one), check(one)]
    found["same"] = one.execute(f"SELECT * FROM {table} ORDER BY id").fetchall() == (
        two.execute(f"SELECT * FROM {table} ORDER BY id").fetchall()
    )

    write(one, f"UPDATE {table} SET name = 'from one' WHERE id = 5")
    write(
        two, f"UPDATE {table} SET name = 'from two' WHERE id = 5", f"INSERT INTO {table} VALUES (1000, 'kept', x'00')"
    )
    two.push()
    one.pull()  # its own change stays on top of what it pulled
    found["before the last push"] = one.execute(f"SELECT name FROM {table} WHERE id IN (5, 1000)").fetchall()
    one.push()
    two.pull()
    found["last push wins"] = two.execute(f"SELECT name FROM {table} WHERE id = 5").fetchall()
    write(one, f"ALTER TABLE {table} ADD COLUMN more DEFAULT 7", f"CREATE INDEX i_{table} ON {table} (name)")
    one.push()
    two.pull()
    found["schema"] = two.execute(f"SELECT sum(more) FROM {table}").fetchall()

    chunked = connect("chunked", pull_bytes_threshold=64 * 1024)
    found["chunks"] = [count(chunked), check(chunked)]
    partial = connect(
        "partial",
        partial_sync_experimental=turso.sync.PartialSyncOpts(
            bootstrap_strategy=turso.sync.PartialSyncPrefixBootstrap(length=128 * 1024), segment_size=16 * 1024
        ),
    )
    before = partial.stats().network_received_bytes
    write(one, f"UPDATE {table} SET value = zeroblob(1500) WHERE id = 1")
    one.push()  # pages of a state before this one are still to be had
    lengths = partial.execute(f"SELECT sum(length(value)), sum(value = zeroblob(1500)) FROM {table}").fetchone()
    found["partial"] = [
        before < 400_000 < partial.stats().network_received_bytes,
        lengths,
        partial.pull(),
        check(partial),
    ]
    by_query = connect(
        "query",
        partial_sync_experimental=turso.sync.PartialSyncOpts(
            bootstrap_strategy=turso.sync.PartialSyncQueryBootstrap(query=f"SELECT * FROM {table} WHERE id < 3")
        ),
    )
    found["query"] = count(by_query)

    waiting = connect("waiting", long_poll_timeout_ms=30_000)
    timer = threading.Timer(0.5, lambda: (write(two, f"INSERT INTO {table} (name) VALUES ('late')"), two.push()))
    timer.start()
    started = time.monotonic()
    found["long poll"] = [waiting.pull(), 0.2 < time.monotonic() - started < 20]
    timer.join()
    waiting.close()
    impatient = connect("impatient", long_poll_timeout_ms=300)
    started = time.monotonic()
    found["nothing in time"] = [impatient.pull(), 0.25 < time.monotonic() - started < 20]

    one.pull()
    one.checkpoint()
    again = connect("one2")
    found["after all"] = [count(one), count(again), check(one), check(again)]
    found["refused"] = failure(lambda: turso.sync.connect(":memory:", url, auth_token="wrong"))
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
