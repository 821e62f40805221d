"""Requests made by hand: the protocol, batches, settings, views. Each shows one thing that PocketBase does.

What a request needs was made by earlier ones (`twin_list`). Not here: generated requests (`twin_generator`).
"""

from twin_requests import COLLECTIONS, ID, Ask, delete, field, get, patch, post, records

PROTOCOL = [
    get("/api/health", by=""),
    get("/api/health"),
    Ask(method="HEAD", path="/api/health", by=""),
    post("/api/health", by=""),
    get("/api/nothing", by=""),
    get("/api/", by=""),
    get("/api", by=""),
    get("/api/health/", by=""),
    get("/api/collections/users", by=""),
    get("/api/collections/users?fields=id,name,fields.name"),
    get("/api/collections/nothing"),
    get("/api/collections/nothing/records"),
    get("/api/collections/meta/scaffolds"),
    Ask(method="PUT", path=records("users")),
    delete(records("users")),
    Ask(method="OPTIONS", path=records("users"), by="", headers={"Origin": "http://a.example"}),
    Ask(
        method="OPTIONS",
        path=records("users"),
        by="",
        headers={
            "Origin": "http://a.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type",
        },
    ),
    get("/api/health", by="", headers={"Origin": "http://a.example"}),
    get("/api/settings", by="", headers={"Authorization": "nonsense"}),
    get("/api/settings", by="", headers={"Authorization": "Bearer {root:token}"}),
    get("/api/settings", by="", headers={"Authorization": "bearer {root:token}"}),
    get("/api/settings", by="", headers={"Authorization": "Token {root:token}"}),
    get("/api/settings", by="", headers={"Authorization": "{root:token}x"}),
    get("/api/settings", by="", headers={"Authorization": " {root:token}"}),
    get(records("users"), by="", headers={"Authorization": "a.b.c"}),
]


def batch(*requests, **more):
    return post("/api/batch", {"requests": list(requests)}, **more)


def item(method, url, body=None, **more):
    return {"method": method, "url": url, **({} if body is None else {"body": body}), **more}


BATCH = [
    batch(item("POST", records("tags"), {"name": "x"})),
    patch("/api/settings", {"batch": {"enabled": True, "maxRequests": 5, "timeout": 30}}),
    batch(),
    post("/api/batch", {}),
    post("/api/batch", "{bad"),
    post("/api/batch", {"requests": "x"}),
    post("/api/batch", {"requests": [5]}),
    batch(
        item("POST", records("tags"), {"id": ID + "b1", "name": "a", "n": 1}),
        item("PUT", records("tags"), {"id": ID + "b1", "n": 5}),
        item("PUT", records("tags"), {"id": ID + "b2", "n": 6}),
        item("PATCH", records("tags", ID + "b2", "fields=n"), {"name": "b", "n+": 4}),
        item("DELETE", records("tags", ID + "b1")),
    ),
    get(records("tags", query="sort=id")),
    batch(item("POST", records("tags"), {"id": ID + "b3"}), item("POST", records("tags"), {"id": "bad"})),
    batch(item("POST", records("tags"), {"id": ID + "b3"}), item("DELETE", records("tags", "nothing"))),
    batch(item("POST", records("nothing"), {})),
    batch(item("GET", records("tags"))),
    batch(item("POST", "/api/collections", {"name": "x"})),
    batch(item("PUT", records("tags", ID + "b2"), {})),
    batch(item("", "")),
    batch(*[item("POST", records("tags"), {})] * 6),
    batch(item("POST", records("notes"), {"text": "x"}), by=""),
    batch(item("POST", records("notes"), {"text": "b", "owner": "member000000002"}, headers={"X-Y": "z"}), by="two"),
    batch(item("POST", records("tags", query="expand=x"), {"name": "y"}, headers={"Authorization": "x"}), by=""),
    get(records("tags", query="sort=name&fields=name,n")),
]
SETTINGS = [
    get("/api/settings", by=""),
    get("/api/settings", by="two"),
    patch("/api/settings", {"meta": {"appName": ""}}),
    patch("/api/settings", {"meta": {"appName": "Name", "appURL": "nothing", "senderAddress": "nothing"}}),
    patch("/api/settings", {"meta": {"appName": "Name", "appURL": "https://a.example"}}),
    patch("/api/settings", {"meta": {"accentColor": "red"}}),
    patch("/api/settings", {"smtp": {"enabled": True, "host": "", "port": 0}}),
    patch("/api/settings", {"smtp": {"enabled": True, "host": "a b", "authMethod": "x", "localName": "a b"}}),
    patch("/api/settings", {"smtp": {"port": 70000}}),
    patch("/api/settings", {"s3": {"enabled": True}}),
    patch("/api/settings", {"s3": {"enabled": True, "endpoint": "nothing", "bucket": "b", "region": "r"}}),
    patch("/api/settings", {"backups": {"cron": "nothing", "cronMaxKeep": 0}}),
    patch("/api/settings", {"backups": {"cron": "* * * * *", "cronMaxKeep": 0}}),
    patch("/api/settings", {"batch": {"enabled": True, "maxRequests": 0, "timeout": 0, "maxBodySize": -1}}),
    patch("/api/settings", {"logs": {"maxDays": -1, "maxDataSize": -1}}),
    patch("/api/settings", {"logs": {"maxDays": 2**53}}),
    patch("/api/settings", {"superuserIPs": ["nothing"]}),
    patch("/api/settings", {"trustedProxy": {"headers": ["X-Y"], "useLeftmostIP": True}}),
    patch("/api/settings", {"rateLimits": {"enabled": True, "rules": [{"label": "", "duration": 0}]}}),
    patch(
        "/api/settings",
        {"rateLimits": {"rules": [{"label": "a b", "audience": "x", "duration": 1, "maxRequests": 1}]}},
    ),
    patch(
        "/api/settings",
        {
            "rateLimits": {
                "rules": [
                    {"label": "/x", "duration": 1, "maxRequests": 1},
                    {"label": "/x", "audience": "@auth", "duration": 1, "maxRequests": 1},
                ]
            }
        },
    ),
    patch("/api/settings", {"rateLimits": {"rules": [], "excludedIPs": ["x"]}}),
    patch("/api/settings", {"meta": 5}),
    patch("/api/settings", {"batch": {"maxRequests": "x"}}),
    patch("/api/settings", {"nothing": 1, "batch": None}),
    patch("/api/settings", []),
    patch("/api/settings", "{bad"),
    patch("/api/settings", {"meta": {"appName": "x"}}, by="two"),
    get("/api/settings"),
    get("/api/settings?fields=batch,meta.appName"),
]
VIEW = {"name": "shown", "type": "view", "id": "shown_id", "listRule": "", "viewRule": ""}
VIEWS = [
    post(COLLECTIONS, {**VIEW, "viewQuery": ""}),
    post(COLLECTIONS, {**VIEW, "viewQuery": "nonsense"}),
    post(COLLECTIONS, {**VIEW, "viewQuery": "SELECT name FROM tags"}),
    post(COLLECTIONS, {**VIEW, "viewQuery": "SELECT * FROM tags"}),
    post(COLLECTIONS, {**VIEW, "viewQuery": "DELETE FROM tags"}),
    post(COLLECTIONS, {**VIEW, "viewQuery": "SELECT id FROM tags; SELECT id FROM notes"}),
    post(COLLECTIONS, {**VIEW, "viewQuery": "SELECT id, nothing FROM tags"}),
    post(COLLECTIONS, {**VIEW, "viewQuery": "SELECT id FROM nothing"}),
    post(COLLECTIONS, {**VIEW, "viewQuery": "SELECT id, name FROM tags", "createRule": "", "indexes": ["x"]}),
    post(
        COLLECTIONS,
        {
            **VIEW,
            "viewQuery": "SELECT t.id, t.name AS title, t.n, (t.n + 1) AS next, cast(t.n AS text) as printed,"
            " count(n.id) AS total, max(t.n) AS most, n.owner, n.tags"
            " FROM tags t LEFT JOIN notes n ON n.top = t.id GROUP BY t.id",
        },
    ),
    get(records("shown", query="sort=title")),
    get(records("shown", query="filter=total=0&expand=owner,tags&sort=n,title"), by=""),
    get(records("shown", "nothing")),
    post(records("shown"), {}),
    patch(records("shown", "x"), {}),
    delete(records("shown", "x")),
    delete(f"{COLLECTIONS}/shown/truncate"),
    patch(f"{COLLECTIONS}/shown", {"viewQuery": "SELECT id, name FROM tags"}),
    get(records("shown", query="sort=name")),
    patch(f"{COLLECTIONS}/tags", {"fields": [field("n", "number")]}),
    post(f"{COLLECTIONS}/meta/dry-run-view", {"query": "SELECT id, n FROM tags"}),
    post(f"{COLLECTIONS}/meta/dry-run-view", {"query": "nonsense"}),
    post(f"{COLLECTIONS}/meta/dry-run-view", {}),
    delete(f"{COLLECTIONS}/tags"),
    delete(f"{COLLECTIONS}/shown"),
]
