"""A world of collections of every kind, made through the API of PocketBase or of Pando, and a picture of it.

The picture is what the API answers to superusers, users and guests; it must be the same whichever program has the
directory. Not here: which program has it (`pocketbase_program`), what is done with it (`test_pocketbase_directory`).
"""

import base64
import http.client
import json
import time

from pocketbase_program import ROOT
from twin_requests import COLLECTIONS, OPEN, TIMES, delete, field, get, patch, post, records
from twin_servers import Side

PASSWORD = "an old password"
NOTED_S = 30
BOUNDARY = "a-boundary-of-this-test"
PICTURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAD0lEQVR4nGP4z8AARAwQCgAf7gP9i18U1AAAAABJRU5ErkJggg=="
)
TEXT = b"what the file says\n"
OWNER = "owner = @request.auth.id"

MEMBERS = {
    "name": "members",
    "id": "members_id",
    "type": "auth",
    **OPEN,
    "listRule": "emailVisibility = true || id = @request.auth.id",
    "viewRule": "id = @request.auth.id",
    "manageRule": "@request.auth.nick = 'boss'",
    "fields": [field("password", "password", cost=4), field("nick", "text", max=20, pattern="^[a-z]*$"), *TIMES],
    "indexes": ["CREATE UNIQUE INDEX `idx_nick` ON `members` (`nick`) WHERE `nick` != ''"],
    "passwordAuth": {"enabled": True, "identityFields": ["email", "nick"]},
    "authToken": {"duration": 86400},
}
KINDS = {
    "name": "kinds",
    "id": "kinds_id",
    **OPEN,
    "listRule": "hidden = '' || " + OWNER,
    "viewRule": "",
    "updateRule": OWNER,
    "deleteRule": None,
    "fields": [
        field("title", "text", min=1, max=50, required=True, presentable=True),
        field("slug", "text", autogeneratePattern="[a-z]{8}"),
        field("page", "editor", convertURLs=True),
        field("n", "number", min=-100, help="a number"),
        field("whole", "number", onlyInt=True),
        field("flag", "bool"),
        field("mail", "email", onlyDomains=["a.example", "b.example"]),
        field("link", "url", exceptDomains=["bad.example"]),
        field("day", "date", min="2000-01-01 00:00:00.000Z"),
        field("kind", "select", values=["a", "b", "ü"]),
        field("tags", "select", values=["a", "b", "ü"], maxSelect=3),
        field("owner", "relation", collectionId="members_id", cascadeDelete=True),
        field("others", "relation", collectionId="members_id", maxSelect=4, minSelect=0),
        field("doc", "json", maxSize=5000),
        field("place", "geoPoint"),
        field("secret", "password", min=4, cost=4),
        field("hidden", "text", hidden=True),
        field("file", "file", mimeTypes=["text/plain"], maxSize=1000),
        field("images", "file", maxSelect=3, thumbs=["1x1"], protected=True),
        *TIMES,
    ],
    "indexes": [
        "create index idx_by_n on kinds (n desc, title)",
        "CREATE UNIQUE INDEX `idx_kinds_mail` ON `kinds` (`mail` COLLATE NOCASE) WHERE `mail` != ''",
    ],
}
VIEW = {
    "name": "summary",
    "id": "summary_id",
    "type": "view",
    "listRule": "",
    "viewRule": "",
    "viewQuery": "SELECT owner AS id, count(*) AS total, max(n) AS most, place, doc FROM kinds GROUP BY owner",
}
SETTINGS = {
    "meta": {"appName": "Ours & <theirs>", "appURL": "https://a.example"},
    "batch": {"enabled": True, "maxRequests": 7},
    "smtp": {"password": "a secret"},
    "logs": {"maxDays": 3},
}


def person(number):
    """Give a member; the same on both sides."""
    return {
        "id": f"member00000000{number}",
        "email": f"m{number}@a.example",
        "nick": "abcdefghi"[number] * 3,
        "emailVisibility": number % 2 == 0,
        "verified": number == 1,
        "password": f"{PASSWORD} {number}",
        "passwordConfirm": f"{PASSWORD} {number}",
    }


THINGS = [
    {"title": "nothing else"},
    {
        "title": "all of it, 'quoted' \u00fc \U0001f600 <b>&amp;",
        "page": "<p>x</p>",
        "n": 1.5,
        "whole": -7,
        "flag": True,
        "mail": "Thing@a.example",
        "link": "https://a.example/x?y=1#z",
        "day": "2026-02-03 04:05:06.789Z",
        "kind": "\u00fc",
        "tags": ["b", "\u00fc"],
        "owner": "member000000001",
        "others": ["member000000002", "member000000001"],
        "doc": {"b": [1, 2.5, None, {"z": 1, "a": "\u2028"}], "a": True},
        "place": {"lon": 12.5, "lat": -50.25},
        "secret": "abcd",
        "hidden": "x",
    },
    {"title": "numbers", "n": 1e21, "whole": 9007199254740991, "doc": 5, "owner": "member000000002"},
    {"title": "small", "n": 0.1, "doc": "text", "kind": "a"},
    {"title": "null", "n": -0.25, "doc": None, "tags": ["a"]},
    {"title": "lists", "doc": [], "others": ["member000000003"], "owner": "member000000003"},
    {"title": "a text of JSON", "doc": '"[1,2]"', "hidden": "y", "owner": "member000000001"},
    {"title": "empty", "doc": "", "place": {"lon": -180, "lat": 90}},
]


def thing(number):
    return f"thing0000000{number:03}"


class World:
    """One server that has the directory, and what it was asked for earlier by way of tokens."""

    def __init__(self, served, tokens=None):
        self.side = Side(served)
        self.served = served
        self.side.kept = dict(tokens or {})

    def ask(self, ask, status=200):
        """Ask; the answer must have the status. Gives the JSON, or the body that is none."""
        answer = self.side.ask(ask)
        assert answer.status == status, f"{self.served.name}: {ask.label}: {answer.status} {answer.body[:500]}"
        return json.loads(answer.body) if answer.body[:1] in (b"{", b"[") else answer.body

    def sign_in(self, step, identity, password, collection="members", status=200):
        body = {"identity": identity, "password": password}
        answer = self.ask(post(f"{COLLECTIONS}/{collection}/auth-with-password", body, by="", step=step), status)
        if status == 200:
            self.wait_noted(answer["record"])

    def wait_noted(self, record):
        """Wait until it is noted from where a record signed in: Pando answers first, so that it needs no primary."""
        found = f"collectionRef='{record['collectionId']}'%26%26recordRef='{record['id']}'"
        deadline = time.monotonic() + NOTED_S
        while not self.ask(get(records("_authOrigins", query=f"filter={found}")))["totalItems"]:
            assert time.monotonic() < deadline, f"where {record['id']} signed in is not noted"
            time.sleep(0.01)

    def sign_in_everybody(self, prefix="", numbers=(1, 2, 3)):
        """Sign in, with passwords; a file token as well."""
        self.sign_in(f"{prefix}root", *ROOT, "_superusers")
        for number in numbers:
            self.sign_in(f"{prefix}m{number}", f"m{number}@a.example", f"{PASSWORD} {number}")
        self.ask(post("/api/files/token", by=f"{prefix}m2", step=f"{prefix}file"))
        path = f"{COLLECTIONS}/members/impersonate/member000000002"
        self.ask(post(path, {"duration": 5000}, by=f"{prefix}root", step=f"{prefix}borrowed"))

    def upload(self, collection, id, key, files, by="root"):
        """Add files, each a name and its bytes, to a record."""
        body = b"".join(
            b'--%s\r\nContent-Disposition: form-data; name="%s"; filename="%s"\r\n\r\n%s\r\n'
            % (BOUNDARY.encode(), key.encode(), name.encode(), content)
            for name, content in files
        )
        body += f"--{BOUNDARY}--\r\n".encode()
        headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        return self.ask(patch(records(collection, id), body, by=by, headers=headers))

    def close(self):
        self.side.close()


def make(world):
    """Make everything, as a superuser."""
    world.sign_in("root", *ROOT, "_superusers")
    for each in (MEMBERS, KINDS, VIEW):
        world.ask(post(COLLECTIONS, each))
    itself = field("parents", "relation", collectionId="kinds_id", maxSelect=2)
    world.ask(patch(f"{COLLECTIONS}/kinds", {"fields": [*KINDS["fields"], itself]}))
    world.ask(patch("/api/settings", SETTINGS))
    second = {"email": "second@example.org", "password": PASSWORD, "passwordConfirm": PASSWORD}
    world.ask(post(records("_superusers"), second))
    for number in (1, 2, 3):
        world.ask(post(records("members"), person(number)))
    for number, each in enumerate(THINGS):
        more = {"parents": [thing(number - 1)]} if number else {}
        world.ask(post(records("kinds"), {"id": thing(number), **each, **more}))
    world.upload("kinds", thing(1), "file", [("a text.txt", TEXT)])
    world.upload("kinds", thing(1), "images", [("one.png", PICTURE), ("two \u00fc.png", PICTURE)])
    world.upload("kinds", thing(2), "images", [("three.png", PICTURE)])
    world.sign_in_everybody()


def picture(world, members=("", "m1", "m2", "root", "borrowed")):
    """Ask for everything, by everybody; gives request -> status and JSON."""
    asks = [
        get(f"{COLLECTIONS}?perPage=200&sort=name"),
        get("/api/settings"),
        get(f"{COLLECTIONS}/members/auth-methods", by=""),
        *(
            get(records(name, query="perPage=200&sort=id"))
            for name in ("_superusers", "members", "users", "_authOrigins")
        ),
    ]
    for by in members:
        asks += [
            get(records("kinds", query="perPage=200&sort=title&expand=owner,others,parents.owner"), by=by),
            get(records("kinds", query="sort=-n,id&filter=" + "n>0%26%26owner.nick~'b'"), by=by),
            get(records("kinds", query="sort=id&filter=" + "tags?='ü'||doc.a=true".replace("ü", "%C3%BC")), by=by),
            get(records("kinds", thing(1), "expand=kinds_via_parents"), by=by),
            get(records("members", query="sort=id&expand=kinds_via_owner"), by=by),
            get(records("summary", query="sort=id"), by=by),
        ]
    return {ask.label: told(world.side.ask(ask)) for ask in asks}


def told(answer):
    value = answer.value
    return answer.status, value if answer.status < 400 else value["data"]


def files(world, token):
    """Fetch all files of all records, and a thumb of each picture; gives path -> status and content."""
    found = {}
    for item in world.ask(get(records("kinds", query="perPage=200")))["items"]:
        for name in [item["file"], *item["images"]]:
            path = f"/api/files/kinds/{item['id']}/{name}"
            for query in ("", "token=", "thumb=1x1&token="):
                if name:
                    known = f"{{{token}:token}}" if query else ""
                    answer = world.side.ask(get(f"{path}?{query}{known}", by=""))
                    content = answer.body if "thumb" not in query else b""  # each program makes its own thumbs
                    found[f"{path}?{query}"] = (answer.status, content)
    return found


def work(world):
    """Do a bit of everything in a directory that was made elsewhere, with tokens that were issued there."""
    world.ask(post(records("members"), person(4), by=""))
    world.sign_in("m4", "m4@a.example", f"{PASSWORD} 4")
    others = {"password": "a new password", "passwordConfirm": "a new password", "oldPassword": f"{PASSWORD} 3"}
    world.ask(patch(records("members", "member000000003"), others, by="m3"))
    world.ask(get(records("members", "member000000003"), by="m3"), 404)
    world.ask(patch(records("members", "member000000002"), {"verified": True, "nick": "changed"}))
    world.ask(post(records("kinds"), {"id": thing(20), "title": "new", "owner": "member000000004"}, by="m4"))
    world.ask(patch(records("kinds", thing(1)), {"n+": 2, "tags-": "b", "doc": {"new": [1.50]}}, by="m1"))
    world.upload("kinds", thing(20), "images", [("new.png", PICTURE)], by="m4")
    world.ask(patch(records("kinds", thing(2)), {"images": []}))
    world.ask(delete(records("members", "member000000001"), by="root"), 204)  # its things and their files, too
    wanted = [{"method": "POST", "url": records("kinds"), "body": {"id": thing(n), "title": "t"}} for n in (21, 22)]
    world.ask(post("/api/batch", {"requests": wanted}))
    change_definitions(world)
    world.ask(patch("/api/settings", {"meta": {"appName": "Renamed"}, "batch": {"maxRequests": 9}}))
    third = {"email": "third@example.org", "password": PASSWORD, "passwordConfirm": PASSWORD}
    world.ask(post(records("_superusers"), third))
    world.sign_in("third", "third@example.org", PASSWORD, "_superusers")


def change_definitions(world):
    """Make a collection, and change others: fields, indexes, a rule, a view."""
    more = [field("kinds", "relation", collectionId="kinds_id", maxSelect=9), field("photo", "file"), *TIMES]
    world.ask(post(COLLECTIONS, {"name": "later", "id": "later_id", **OPEN, "fields": more}))
    world.ask(post(records("later"), {"id": "later0000000001", "kinds": [thing(20), thing(21)]}, by=""))
    world.ask(patch(f"{COLLECTIONS}/summary", {"viewQuery": "SELECT id, owner, title FROM kinds"}))
    kinds = world.ask(get(f"{COLLECTIONS}/kinds"))
    fields = [each for each in kinds["fields"] if each["name"] != "link"]
    renamed = [each | {"name": "number"} if each["name"] == "n" else each for each in fields]
    index = "CREATE INDEX `idx_kinds_number` ON `kinds` (`number`)"
    indexes = [index, *(each for each in kinds["indexes"] if "idx_by_n" not in each)]
    change = {"fields": renamed, "indexes": indexes, "listRule": kinds["listRule"] + " || number > 1"}
    world.ask(patch(f"{COLLECTIONS}/kinds", change))


def hears(world, topic, act, by):
    """Subscribe to a topic, act, and give the first event of it."""
    host, _, port = world.served.address.partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    try:
        connection.request("GET", "/api/realtime", headers={"Accept": "text/event-stream"})
        stream = connection.getresponse()
        client = next_event(stream, "PB_CONNECT")["clientId"]
        world.ask(post("/api/realtime", {"clientId": client, "subscriptions": [topic]}, by=by), 204)
        act()
        return next_event(stream, topic)
    finally:
        connection.close()


def next_event(stream, name):
    event, data = "", ""
    while True:
        line = stream.readline().decode()
        assert line, "the stream ended"
        key, _, value = line.rstrip("\n").partition(":")
        if key == "event":
            event = value.strip()
        elif key == "data":
            data += value
        elif not key:
            if event == name:
                return json.loads(data)
            event, data = "", ""
