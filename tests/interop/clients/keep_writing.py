"""Writes rows and reads them back, with a loop that tries again, until its input ends: the Python clients' part of
test_sql_clients_kills.py, saying the same lines as keep_writing.mjs. Arguments: client, URL, token, a table of its own.
"""

import asyncio
import json
import sys
import threading
import time

COLUMNS = "seq INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT, attempt INTEGER, part INTEGER"
WAYS = ("single", "batch", "transaction")


class LibsqlClient:
    """PyPI libsql-client: asyncio; over HTTP it has no transactions."""

    def __init__(self, url, token, insert):
        import libsql_client

        self._client = libsql_client.create_client(url, auth_token=token)
        self._insert = insert
        self.ways = WAYS if url.startswith("ws") else WAYS[:2]

    async def run(self, sql):
        await self._client.execute(sql)

    async def single(self, key, attempt):
        await self._client.execute(self._insert, [key, attempt, 0])

    async def batch(self, key, attempt):
        await self._client.batch([(self._insert, [key, attempt, part]) for part in (0, 1)])

    async def transaction(self, key, attempt):
        transaction = self._client.transaction()
        try:
            for part in (0, 1):
                await transaction.execute(self._insert, [key, attempt, part])
            await transaction.commit()
        finally:
            transaction.close()

    async def read(self, sql, key):
        rows = (await self._client.execute(sql, [key])).rows
        return tuple(rows[0])

    async def close(self):
        await self._client.close()


class Libsql:
    """PyPI libsql without a local file: like the module sqlite3."""

    ways = WAYS

    def __init__(self, url, token, insert):
        import libsql

        self._connect = lambda: libsql.connect(url, auth_token=token)
        self._connection = self._connect()
        self._insert = insert

    async def run(self, sql):
        self._connection.execute(sql)
        self._connection.commit()

    async def single(self, key, attempt):
        await self._write(lambda: self._connection.execute(self._insert, (key, attempt, 0)))

    async def batch(self, key, attempt):
        await self._write(lambda: self._connection.executemany(self._insert, [(key, attempt, part) for part in (0, 1)]))

    async def transaction(self, key, attempt):
        await self._write(lambda: [self._connection.execute(self._insert, (key, attempt, part)) for part in (0, 1)])

    async def _write(self, work):
        try:
            work()
            self._connection.commit()
        except Exception:
            self._roll_back()
            raise

    def _roll_back(self):
        """What cannot even roll back never works again: this client keeps the name of a stream that is gone."""
        try:
            self._connection.rollback()
        except ValueError:
            self._connection = self._connect()

    async def read(self, sql, key):
        return self._connection.execute(sql, (key,)).fetchone()

    async def close(self):
        self._connection.close()


async def wait_before_the_next(seconds):
    """A user's program is not always busy, and does not try again at once."""
    await asyncio.sleep(seconds)


async def attempt(line, work):
    began = time.monotonic()
    try:
        found = await work
        line |= {"ok": True} | (found or {})
    except Exception as error:  # noqa: BLE001 - a client's user tries again whatever it was
        text = f"{type(error).__name__}: {error} / {error.__cause__ or ''}"
        line |= {"ok": False, "code": getattr(error, "code", "") or "", "text": text}
    print(json.dumps(line | {"ms": (time.monotonic() - began) * 1000}), flush=True)
    return line["ok"]


async def count(client, table, key):
    rows, own = await client.read(f"SELECT count(*), coalesce(sum(key = ?), 0) FROM {table}", key)
    return {"rows": rows, "own": own}


async def write(client, table, is_over):
    kept, step = "", 0
    while not is_over.is_set():
        key, way = f"k{step}", client.ways[step % len(client.ways)]
        number, wait = 0, 0.02
        while not is_over.is_set():
            line = {"way": way, "key": key, "attempt": number}
            if is_kept := await attempt(line, getattr(client, way)(key, number)):
                kept = key
            await attempt({"way": "read", "key": kept}, count(client, table, kept))
            if is_kept:
                break
            await wait_before_the_next(wait)
            number, wait = number + 1, min(2 * wait, 0.3)
        step += 1
        await wait_before_the_next(0.01)


async def main(kind, url, token, table):
    is_over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), is_over.set()), daemon=True).start()
    insert = f"INSERT INTO {table}(key, attempt, part) VALUES(?, ?, ?)"
    client = {"libsql_client": LibsqlClient, "libsql": Libsql}[kind](url, token, insert)
    while not await attempt({"way": "schema"}, client.run(f"CREATE TABLE IF NOT EXISTS {table}({COLUMNS})")):
        await wait_before_the_next(0.05)
    await write(client, table, is_over)
    await client.close()
    print(json.dumps({"way": "end", "ok": True, "ms": 0}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
