"""One step of a program that syncs a file with pyturso: statements, then a pull, a push or both; a process of its own.

Arguments: URL, token, file, the word (pull, push, pull+push, none), statements. Says what became of it as JSON.
"""

import json
import sys

import turso
import turso.sync


def main(url, token, path, word, *statements):
    said = {}
    try:
        connection = turso.sync.connect(path, url, auth_token=token, client_name=path.rpartition("/")[2])
        for statement in statements:
            connection.execute(statement)
        connection.commit()
        for each in word.split("+"):
            if each == "pull":
                said["pulled"] = connection.pull()
            elif each == "push":
                connection.push()
        said["rows"] = connection.execute("SELECT count(*), sum(length(v)), max(id) FROM t").fetchone()
        said["whole"] = connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    except turso.Error as error:
        said["error"] = str(error)
    print(json.dumps(said))


if __name__ == "__main__":
    main(*sys.argv[1:])
