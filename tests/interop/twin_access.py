"""Requests made by hand: who may do what, signing in. Each shows one thing that PocketBase does.

What a request needs was made by earlier ones (`twin_list`). Not here: generated requests (`twin_generator`).
"""

from twin_requests import COLLECTIONS, ID, OPEN, TIMES, delete, field, get, patch, post, records

OWNER = "@request.auth.id != '' && owner = @request.auth.id"
NOTES = {
    "name": "notes",
    "id": "notes_id",
    "listRule": "public = true || owner = @request.auth.id",
    "viewRule": "public = true || " + OWNER,
    "createRule": "@request.auth.id != '' && @request.body.owner = @request.auth.id && text != 'forbidden'",
    "updateRule": OWNER + " && @request.body.owner:isset = false",
    "deleteRule": None,
    "fields": [
        field("text", "text"),
        field("public", "bool"),
        field("owner", "relation", collectionId="members_id", cascadeDelete=True),
        field("tags", "relation", collectionId="tags_id", maxSelect=5),
        field("top", "relation", collectionId="tags_id"),
        field("inner", "text", hidden=True),
        *TIMES,
    ],
    "indexes": [],
}
STRICT = [each | {"required": True} if each["name"] == "top" else each for each in NOTES["fields"]]
"""Fields with which a tag that is on top cannot be removed."""
TAGS = {
    "name": "tags",
    "id": "tags_id",
    **OPEN,
    "viewRule": "name != 'secret'",
    "fields": [field("name", "text"), field("n", "number")],
}
PASSWORD = "a password"


def member(number, **more):
    name = f"m{number}"
    return {
        "id": f"member00000000{number}",
        "email": f"{name}@a.example",
        "password": PASSWORD,
        "passwordConfirm": PASSWORD,
        **more,
    }


def sign_in(identity, password=PASSWORD, collection="members", query="", **more):
    body = {"identity": identity, "password": password}
    path = f"{COLLECTIONS}/{collection}/auth-with-password" + (f"?{query}" if query else "")
    return post(path, body, by="", **more)


MEMBERS = [
    patch(f"{COLLECTIONS}/members", {"fields": [field("name", "text"), field("password", "password", cost=4)]}),
    patch(f"{COLLECTIONS}/members", {**OPEN, "viewRule": "id = @request.auth.id || emailVisibility = true"}),
    post(records("members"), member(1, name="one"), by=""),
    post(records("members"), member(2, emailVisibility=True), by=""),
    post(records("members"), member(3, verified=True), by=""),
    post(records("members"), member(3, verified=True)),
    post(records("members"), member(4, passwordConfirm="other"), by=""),
    post(records("members"), {"email": "x@a.example"}, by=""),
    post(records("members"), {"email": "x@a.example", "password": PASSWORD}, by=""),
    post(records("members"), {**member(5), "email": "m1@a.example"}, by=""),
    post(records("members"), {**member(5), "email": "M1@A.EXAMPLE"}, by=""),
    post(records("members"), {**member(1), "email": "m6@a.example"}, by=""),
    post(records("users"), {**member(1), "email": "m6@a.example"}, by=""),
    post(records("members"), {**member(7), "tokenKey": "x" * 40}, by=""),
    post(records("members"), {**member(8), "password": "short", "passwordConfirm": "short"}, by=""),
    sign_in("m1@a.example", step="one"),
    sign_in("m2@a.example", step="two", query="fields=token,record.id"),
    sign_in("m2@a.example", step="two"),
    sign_in("M1@a.example"),
    sign_in("m1@a.example", "wrong"),
    sign_in("nobody@a.example"),
    sign_in("", ""),
    sign_in("x" * 300, "y" * 300),
    sign_in("m1@a.example", collection="tags"),
    sign_in("m1@a.example", collection="users"),
    post(f"{COLLECTIONS}/members/auth-with-password", {"identity": "m1@a.example", "identityField": "name"}, by=""),
    post(f"{COLLECTIONS}/members/auth-with-password", "{bad", by=""),
    post(f"{COLLECTIONS}/members/auth-refresh", by="one"),
    post(f"{COLLECTIONS}/members/auth-refresh", by=""),
    post(f"{COLLECTIONS}/members/auth-refresh"),
    post(f"{COLLECTIONS}/users/auth-refresh", by="one"),
    post(f"{COLLECTIONS}/_superusers/auth-refresh"),
    get(f"{COLLECTIONS}/members/auth-methods", by=""),
    get(f"{COLLECTIONS}/tags/auth-methods", by=""),
    post(f"{COLLECTIONS}/members/impersonate/member000000001", {"duration": 60}, step="borrowed"),
    post(f"{COLLECTIONS}/members/impersonate/member000000001", {"duration": -5}),
    post(f"{COLLECTIONS}/members/impersonate/member000000001", by="one"),
    post(f"{COLLECTIONS}/members/impersonate/nobody"),
    post(f"{COLLECTIONS}/members/auth-refresh", by="borrowed"),
    post("/api/files/token", by="one"),
    post("/api/files/token", by=""),
    get(records("members"), by=""),
    get(records("members"), by="one"),
    get(records("members")),
    get(records("members", "member000000001"), by="two"),
    get(records("members", "member000000002"), by="one"),
    get(records("members", query="filter=email='m1@a.example'"), by=""),
    get(records("members", query="filter=email='m2@a.example'"), by=""),
    get(records("members", query="sort=email&fields=id"), by="one"),
    get(records("members", query="filter=password!=''"), by="one"),
    get(records("members", query="filter=tokenKey!=''"), by=""),
    get(records("members", query="filter=password!=''")),
    patch(records("members", "member000000001"), {"name": "new"}, by="one"),
    patch(records("members", "member000000001"), {"email": "n1@a.example"}, by="one"),
    patch(records("members", "member000000001"), {"verified": True}, by="one"),
    patch(records("members", "member000000001"), {"password": "other password"}, by="one"),
    patch(
        records("members", "member000000001"),
        {"password": "other password", "passwordConfirm": "other password", "oldPassword": "wrong"},
        by="one",
    ),
    patch(
        records("members", "member000000001"),
        {"password": "other password", "passwordConfirm": "other password", "oldPassword": PASSWORD},
        by="one",
    ),
    get(records("members"), by="one"),
    sign_in("m1@a.example"),
    sign_in("m1@a.example", "other password", step="one"),
    patch(records("members", "member000000002"), {"email": "n2@a.example", "verified": True}),
    post(f"{COLLECTIONS}/members/auth-refresh", by="two"),
    sign_in("n2@a.example", step="two"),
    patch(f"{COLLECTIONS}/members", {"authRule": "verified = true"}),
    sign_in("m1@a.example", "other password"),
    patch(f"{COLLECTIONS}/members", {"authRule": None}),
    sign_in("n2@a.example"),
    patch(f"{COLLECTIONS}/members", {"authRule": "", "passwordAuth": {"enabled": False}}),
    sign_in("n2@a.example"),
    patch(f"{COLLECTIONS}/members", {"passwordAuth": {"enabled": True}}),
    sign_in("m1@a.example", "other password", step="one"),
    sign_in("n2@a.example", step="two"),
    sign_in("root@example.org", "wrong", "_superusers"),
    delete(records("_superusers", "{root:record.id}")),
    get(records("_superusers")),
    get(records("_superusers"), by="one"),
    get(records("_superusers"), by=""),
]
RULES = [
    post(COLLECTIONS, TAGS),
    post(COLLECTIONS, NOTES),
    post(records("tags"), {"id": ID + "t1", "name": "first", "n": 1}),
    post(records("tags"), {"id": ID + "t2", "name": "second", "n": 2}),
    post(records("tags"), {"id": ID + "t3", "name": "secret", "n": 3}),
    post(records("notes"), {"text": "x"}, by=""),
    post(records("notes"), {"text": "x"}, by="one"),
    post(records("notes"), {"text": "x", "owner": "member000000002"}, by="one"),
    post(records("notes"), {"text": "forbidden", "owner": "member000000001"}, by="one"),
    post(
        records("notes"),
        {"id": ID + "n1", "text": "mine", "owner": "member000000001", "tags": [ID + "t1", ID + "t3"], "inner": "x"},
        by="one",
    ),
    post(
        records("notes"),
        {"id": ID + "n2", "text": "his", "owner": "member000000002", "public": True, "top": ID + "t2", "inner": "x"},
    ),
    post(records("notes"), {"id": ID + "n3", "text": "nobody's", "top": ID + "t3"}),
    *[
        each
        for by in ("", "one", "two", "root")
        for each in (
            get(records("notes", query="sort=text"), by=by),
            get(records("notes", ID + "n1"), by=by),
            get(records("notes", ID + "n2", "expand=owner,tags,top"), by=by),
            get(records("notes", query="expand=tags,top,owner&sort=text"), by=by),
            get(records("tags", query="expand=notes_via_tags.owner,notes_via_top&sort=name"), by=by),
            get(records("members", query="expand=notes_via_owner.tags&sort=id"), by=by),
            get(records("notes", query="filter=inner='x'"), by=by),
            get(records("notes", query="sort=-owner.name,text"), by=by),
            get(records("notes", query="filter=owner.email='m1@a.example'"), by=by),
            get(records("notes", query="filter=tags.name='secret'"), by=by),
            get(records("notes", query="filter=tags.n?>2"), by=by),
            get(records("tags", query="filter=notes_via_tags.text='mine'"), by=by),
            get(records("tags", query="filter=@collection.notes.text='mine'"), by=by),
            get(records("notes", query="filter=@request.auth.id!=''"), by=by),
        )
    ],
    patch(records("notes", ID + "n1"), {"text": "changed"}, by=""),
    patch(records("notes", ID + "n1"), {"text": "changed"}, by="two"),
    patch(records("notes", ID + "n1"), {"text": "changed"}, by="one"),
    patch(records("notes", ID + "n1"), {"owner": "member000000002"}, by="one"),
    patch(records("notes", ID + "n1"), {"inner": "y"}, by="one"),
    get(records("notes", ID + "n1")),
    delete(records("notes", ID + "n1"), by="one"),
    delete(records("tags", ID + "t1"), by=""),
    get(records("notes", ID + "n1")),
    patch(
        f"{COLLECTIONS}/notes",
        {
            "fields": [
                *NOTES["fields"][:4],
                field("top", "relation", collectionId="tags_id", required=True),
                *NOTES["fields"][5:],
            ]
        },
    ),
    delete(records("tags", ID + "t2")),
    delete(records("members", "member000000001")),
    get(records("notes", query="sort=text")),
    delete(f"{COLLECTIONS}/tags"),
    delete(f"{COLLECTIONS}/tags/truncate"),
    get(records("tags")),
    delete(f"{COLLECTIONS}/notes/truncate"),
    delete(f"{COLLECTIONS}/tags/truncate", by="two"),
    delete(f"{COLLECTIONS}/tags/truncate"),
    get(records("tags")),
]
