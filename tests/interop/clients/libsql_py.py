"""One round of what PyPI's libsql does without a local file. Arguments: URL, token, name of a table of its own."""

import json
import sys

import libsql


def failure(connection, sql, *args):
    try:
        connection.execute(sql, args)
    except Exception as error:  # noqa: BLE001 - the client has one kind for everything
        return str(error)
    finally:
        connection.rollback()
    return "no error"


def main(url, token, table):
    found = {}
    connection = libsql.connect(url, auth_token=token)

    def count(on=connection):
        return on.execute(f"SELECT count(*) FROM {table}").fetchone()[0]

    connection.execute(f"CREATE TABLE {table}(id INTEGER PRIMARY KEY, name TEXT UNIQUE, value)")
    connection.commit()
    insert = f"INSERT INTO {table}(name, value) VALUES(?, ?)"
    inserted = connection.execute(insert, ("first", b"\x00\xff"))
    found["inserted"] = [inserted.rowcount, inserted.lastrowid]
    connection.commit()
    big = (1 << 62) + 1  # in the text: as an argument, this client would send it as a float
    selected = connection.execute(f"SELECT name, value, {big}, 0.5, NULL FROM {table} WHERE id = ?", (1,))
    found["columns"] = [column[0] for column in selected.description]
    found["values"] = [item.hex() if isinstance(item, bytes) else item for item in selected.fetchone()]
    connection.executemany(insert, [("many 1", None), ("many 2", 1.5)])
    found["in_transaction"] = [connection.in_transaction, count(), count(libsql.connect(url, auth_token=token))]
    connection.commit()
    found["after_commit"] = [connection.in_transaction, count(), count(libsql.connect(url, auth_token=token))]
    connection.execute(f"DELETE FROM {table}")
    found["in_rolled_back"] = count()
    connection.rollback()
    found["after_rollback"] = count()
    connection.executescript(f"INSERT INTO {table}(name) VALUES('s1'); INSERT INTO {table}(name) VALUES('s2');")
    connection.commit()
    found["after_script"] = count()
    texts = [failure(connection, "SELECT * FROM there_is_no_such_table"), failure(connection, "SELEC 1")]
    texts.append(failure(connection, insert, "first", None))
    words = ("no such table", "syntax error", "UNIQUE constraint failed")
    found["errors"] = [word if word in text else text for word, text in zip(words, texts, strict=True)]
    for number in range(20):
        connection.execute(insert, (f"p{number}", number))
        connection.commit()
        assert count() == 6 + number, "it does not read its own write"
    found["after_all"] = count()
    connection.close()
    return found


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
