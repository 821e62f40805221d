"""One round of everything that PyPI's libsql-client does. Arguments: URL, token, name of a table of its own."""

import asyncio
import json
import sys

import libsql_client


async def failure(work):
    try:
        await work
    except libsql_client.LibsqlError as error:
        return error.code
    return "no error"


async def transactions(client, table, found):
    async def count(on):
        return (await on.execute(f"SELECT count(*) FROM {table}"))[0][0]

    committed = client.transaction()
    await committed.execute(f"INSERT INTO {table}(name) VALUES('committed')")
    found["in_transaction"] = await count(committed)
    await committed.commit()
    found["after_commit"] = await count(client)
    rolled_back = client.transaction()
    await rolled_back.execute(f"DELETE FROM {table}")
    found["in_rolled_back"] = await count(rolled_back)
    await rolled_back.rollback()
    found["after_rollback"] = await count(client)
    left = client.transaction()
    await left.execute(f"DELETE FROM {table}")
    left.close()
    found["after_close"] = await count(client)


async def main(url, token, table):
    found = {}
    async with libsql_client.create_client(url, auth_token=token) as client:

        async def count():
            return (await client.execute(f"SELECT count(*) FROM {table}"))[0][0]

        await client.execute(f"CREATE TABLE {table}(id INTEGER PRIMARY KEY, name TEXT UNIQUE, value)")
        inserted = await client.execute(f"INSERT INTO {table}(name, value) VALUES(?, ?)", ["first", b"\x00\xff"])
        found["inserted"] = [inserted.rows_affected, inserted.last_insert_rowid]
        values = await client.execute(
            f"SELECT name, value, :big, 0.5, NULL FROM {table} WHERE id = :id", {"big": (1 << 62) + 1, "id": 1}
        )
        found["values"] = [item.hex() if isinstance(item, bytes) else item for item in values[0]]
        batch = await client.batch([f"INSERT INTO {table}(name) VALUES('batch')", f"SELECT count(*) FROM {table}"])
        found["batch"] = batch[1][0][0]
        texts = [f"INSERT INTO {table}(name) VALUES('{name}')" for name in ("lost", "first")]
        found["failed_batch"] = await failure(client.batch(texts))
        found["after_failed_batch"] = await count()
        found["no_table"] = await failure(client.execute("SELECT * FROM there_is_no_such_table"))
        found["syntax"] = await failure(client.execute("SELEC 1"))
        found["unique"] = await failure(client.execute(f"INSERT INTO {table}(name) VALUES('first')"))
        await asyncio.gather(
            *(client.execute(f"INSERT INTO {table}(name) VALUES(?)", [f"p{number}"]) for number in range(40))
        )
        found["after_parallel_writes"] = await count()
        try:
            await transactions(client, table, found)
        except libsql_client.LibsqlError as error:
            found["transactions"] = error.code
    return found


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(*sys.argv[1:]))))
