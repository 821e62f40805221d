"""Short ways to write requests of the records API."""

from twin_servers import Ask


def get(path, **more):
    return Ask(method="GET", path=path, **more)


def post(path, body=None, **more):
    return Ask(method="POST", path=path, body=body, **more)


def patch(path, body=None, **more):
    return Ask(method="PATCH", path=path, body=body, **more)


def delete(path, **more):
    return Ask(method="DELETE", path=path, **more)


def field(name, type, **options):
    return {"name": name, "type": type, **options}


COLLECTIONS = "/api/collections"
OPEN = {"listRule": "", "viewRule": "", "createRule": "", "updateRule": "", "deleteRule": ""}
TIMES = [
    field("created", "autodate", onCreate=True),
    field("updated", "autodate", onCreate=True, onUpdate=True),
]


def records(collection, id="", query=""):
    path = f"{COLLECTIONS}/{collection}/records" + (f"/{id}" if id else "")
    return f"{path}?{query}" if query else path


ID = "aaaaaaaaaaaaa"
"""Begin of the ids that are given here; two more characters make one."""
