"""Requests made by hand: imports, forms and files, superusers; and what shows each difference that stays on purpose.

What a request needs was made by earlier ones (`twin_list`). Not here: generated requests (`twin_generator`).
"""

from twin_requests import COLLECTIONS, ID, OPEN, Ask, delete, field, get, patch, post, records

BOUNDARY = "between"
MULTIPART = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
PICTURE = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
    "0000000d49444154789c6360606060000000050001a5f645400000000049454e44ae426082"
)


def form(*parts):
    """Make a multipart body; a part is a name with a text, or with a file's name and content."""
    made = b""
    for name, *rest in parts:
        file = f'; filename="{rest[0]}"' if len(rest) > 1 else ""
        content = rest[-1] if isinstance(rest[-1], bytes) else rest[-1].encode()
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
        made += head.encode() + content + b"\r\n"
    return made + f"--{BOUNDARY}--\r\n".encode()


def upload(method, path, *parts, **more):
    return Ask(method=method, path=path, body=form(*parts), headers=MULTIPART, **more)


def import_(*collections, missing=False, **more):
    body = {"collections": list(collections), "deleteMissing": missing}
    return Ask(method="PUT", path=f"{COLLECTIONS}/import", body=body, **more)


ONE = {"name": "one", "id": "one_id", **OPEN, "fields": [field("a", "text", id="f_a"), field("n", "number", id="f_n")]}
TWO = {
    "name": "two",
    "id": "two_id",
    **OPEN,
    "fields": [field("to", "relation", collectionId="one_id"), field("from", "relation", collectionId="two_id")],
}
SEEN = {"name": "seen", "id": "seen_id", "type": "view", "viewQuery": "SELECT id, a FROM one", "listRule": ""}
IMPORTS = [
    import_(),
    Ask(method="PUT", path=f"{COLLECTIONS}/import", body={}),
    Ask(method="PUT", path=f"{COLLECTIONS}/import", body="{bad"),
    import_(ONE, by=""),
    import_(ONE, TWO, SEEN),
    get(f"{COLLECTIONS}/one"),
    get(f"{COLLECTIONS}/two"),
    get(f"{COLLECTIONS}/seen"),
    post(records("one"), {"id": ID + "i1", "a": "x", "n": 1}, by=""),
    post(records("two"), {"id": ID + "i1", "to": ID + "i1", "from": ID + "i1"}, by=""),
    import_({**ONE, "fields": [field("b", "text", id="f_a")]}),
    get(records("one")),
    get(records("seen")),
    import_({**ONE, "fields": [field("a", "text", id="f_a"), field("c", "bool", id="f_c")], "listRule": None}),
    get(records("one"), by=""),
    get(records("one")),
    patch(f"{COLLECTIONS}/one", {"fields": [field("renamed", "text", id="f_a")]}),
    import_({**ONE, "fields": [field("a", "text", id="f_a")]}),
    get(records("seen")),
    import_({**ONE, "fields": [field("a", "number", id="f_a")]}),
    import_({"name": "three", "fields": [field("x", "nothing")]}),
    import_({"name": "three", "listRule": "nothing = 1"}),
    import_({"name": "three", "type": "view", "viewQuery": "SELECT nothing"}),
    import_({"name": "unindexed", "indexes": ["nonsense"]}),
    get(f"{COLLECTIONS}/unindexed"),
    import_({"name": "three"}, {"name": "three"}),
    get(f"{COLLECTIONS}/three"),
    delete(f"{COLLECTIONS}/one"),
    delete(f"{COLLECTIONS}/seen"),
    delete(f"{COLLECTIONS}/two"),
    delete(f"{COLLECTIONS}/one"),
]
FILES = {
    "name": "papers",
    "id": "papers_id",
    **OPEN,
    "viewRule": "title != 'secret'",
    "fields": [
        field("title", "text", required=True),
        field("doc", "file", maxSize=100, mimeTypes=["text/plain"]),
        field("pictures", "file", maxSelect=2, thumbs=["1x1"]),
        field("hidden", "file", protected=True),
        field("tags", "select", values=["a", "b"], maxSelect=2),
        field("data", "json"),
        field("n", "number"),
    ],
}
PAPER = records("papers", ID + "f1")
FORMS = [
    post(COLLECTIONS, FILES),
    upload("POST", records("papers"), ("title", "x"), ("tags", "a"), ("tags", "b"), ("n", "1.50"), ("data", "[1,2]")),
    upload("POST", records("papers"), ("title", "x"), ("data", "{bad"), ("n", "abc"), ("tags", "c")),
    upload("POST", records("papers"), ("@jsonPayload", '{"title":"payload","n":5}'), ("tags", "a")),
    upload("POST", records("papers"), ("n", "1")),
    upload("POST", records("papers"), ("title", "x"), ("n", "-2.50"), ("data", "-2.50")),
    Ask(method="POST", path=records("papers"), body="title=x%20y&tags=a&tags=b&n=1e2&data=text", headers=FORM),
    Ask(method="POST", path=records("papers"), body=b"nonsense", headers=MULTIPART),
    Ask(method="POST", path=records("papers"), body=b"nonsense", headers={"Content-Type": "text/plain"}),
    Ask(method="POST", path=records("papers"), body=b"nonsense", headers={"Content-Type": "multipart/form-data"}),
    upload("POST", records("papers"), ("id", ID + "f1"), ("title", "t"), ("doc", "A text!.TXT", b"plain\n")),
    get(PAPER),
    upload("PATCH", PAPER, ("pictures", "one.png", PICTURE), ("pictures", "two.png", PICTURE), step="paper"),
    upload("PATCH", PAPER, ("pictures", "three.png", PICTURE)),
    upload("PATCH", PAPER, ("doc", "big.txt", b"x" * 101)),
    upload("PATCH", PAPER, ("doc", "picture.txt", PICTURE)),
    upload("PATCH", PAPER, ("hidden", "secret.bin", b"\x00\x01"), step="hidden"),
    get("/api/files/papers/" + ID + "f1/nothing.txt", by=""),
    get("/api/files/papers/" + ID + "f2/nothing.txt", by=""),
    get("/api/files/nothing/" + ID + "f1/nothing.txt", by=""),
    get("/api/files/papers/" + ID + "f1/{hidden:hidden}", by=""),
    get("/api/files/papers/" + ID + "f1/{hidden:hidden}?token=nonsense", by=""),
    patch(PAPER, {"doc": "other.txt"}),
    patch(PAPER, {"pictures": ["nothing.png"]}),
    patch(PAPER, {"pictures-": "{paper:pictures.0}"}),
    patch(PAPER, {"doc": ""}),
    patch(PAPER, {"pictures": None}),
    upload("PATCH", PAPER, ("n+", "2"), ("tags+", "b")),
    delete(PAPER),
    delete(f"{COLLECTIONS}/papers/truncate"),
    delete(f"{COLLECTIONS}/papers"),
]
SECOND = {"id": ID + "s1", "email": "second@a.example", "password": "a password", "passwordConfirm": "a password"}
SUPERUSERS = [
    post(records("_superusers"), SECOND, by=""),
    post(records("_superusers"), SECOND),
    post(
        f"{COLLECTIONS}/_superusers/auth-with-password",
        {"identity": "second@a.example", "password": "a password"},
        by="",
    ),
    patch(records("_superusers", ID + "s1"), {"emailVisibility": True, "verified": False}),
    patch(records("_superusers", ID + "s1"), {"password": "other password", "passwordConfirm": "no"}),
    get(records("_superusers", query="sort=id&fields=id,email"), by=""),
    get(records("_superusers", ID + "s1"), by="two"),
    get(records("_externalAuths"), by="two"),
    get(records("_mfas")),
    get(records("_otps")),
    post(records("_otps"), {}),
    post(f"{COLLECTIONS}/_superusers/impersonate/{ID}s1", {"duration": 10}),
    delete(records("_superusers", ID + "s1"), by="two"),
    delete(records("_superusers", ID + "s1")),
    delete(f"{COLLECTIONS}/_superusers/truncate"),
    get(f"{COLLECTIONS}/meta/oauth2-providers?fields=name"),
    get(f"{COLLECTIONS}/meta/scaffolds?fields=base", by=""),
    post(f"{COLLECTIONS}/meta/dry-run-view", {"query": "SELECT 1 AS id"}, by=""),
]
MAN, INN = ID + "m1", ID + "n1"
APART = [
    post(
        COLLECTIONS,
        {"name": "men", "id": "men_id", **OPEN, "fields": [field("age", "number"), field("word", "password")]},
    ),
    post(
        COLLECTIONS,
        {
            "name": "inns",
            "id": "inns_id",
            **OPEN,
            "fields": [field("men", "relation", collectionId="men_id", maxSelect=5), field("name", "text")],
            "indexes": ["CREATE UNIQUE INDEX one_inn ON inns (men)", "CREATE INDEX by_name ON inns (name)"],
        },
    ),
    post(records("men"), {"id": MAN, "age": 5, "word": "12345678"}),
    post(records("inns"), {"id": INN, "men": [MAN], "name": "x"}),
    get(records("men", MAN, "expand=inns_via_men")),
    patch(f"{COLLECTIONS}/inns", {"name": "has space"}),
    patch(f"{COLLECTIONS}/men", {"viewRule": "@collection.men:x.age > 1"}),
    patch(f"{COLLECTIONS}/men", {"name": ""}),
    patch(f"{COLLECTIONS}/men", {"viewRule": ""}),
    patch(f"{COLLECTIONS}/inns", {"fields": [field("men", "relation", collectionId="men_id", maxSelect=5)]}),
    patch(f"{COLLECTIONS}/men", {"createRule": None, "updateRule": None, "deleteRule": None}),
    post(records("men"), "{bad", by=""),
    patch(records("men", MAN), "{bad", by=""),
    Ask(method="DELETE", path=records("men", MAN), body="{bad", by=""),
    Ask(method="DELETE", path=records("inns", "nothing"), body="{bad", by=""),
    get(records("men", query="filter=word~%27%242a%27&fields=age"), by=""),
    get(records("men", query="sort=word&fields=age"), by=""),
    patch(f"{COLLECTIONS}/inns", {"listRule": "name = 'y'"}),
    get(records("men", query="filter=inns_via_men.name=%27%27&fields=age"), by=""),
    post(
        COLLECTIONS,
        {
            "name": "odd",
            "fields": [field("n", "number", hidden=True)],
            "createRule": "",
            "indexes": ["CREATE UNIQUE INDEX odd_n ON odd (n)"],
        },
    ),
    post(records("odd"), {"n": 1}, by=""),
    post(records("odd"), {"n": 2}, by=""),
    post(records("odd"), {"n": 0}),
    delete(f"{COLLECTIONS}/odd"),
    delete(f"{COLLECTIONS}/inns"),
    delete(f"{COLLECTIONS}/men"),
]
"""What shows the differences that stay on purpose."""
