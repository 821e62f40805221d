"""A few fixed records, and one line to ask about them."""

from records_filter_world import NOW, Identity, make_database, make_schema

from pando.records.filter import Compiler, Filter, Question, RequestInfo, Trust


def user(name, level=0, friends=(), group="", public=1, secret="s"):
    return {
        "id": name.lower(),
        "email": f"{name.lower()}@example.org",
        "emailVisibility": public,
        "secret": secret,
        "name": name,
        "level": level,
        "friends": list(friends),
        "group": group,
    }


def post(name, title, rank=0, public=0, meta=None, tags=(), author="", likers=(), place=(0, 0)):
    return {
        "id": name,
        "title": title,
        "rank": rank,
        "public": public,
        "meta": meta,
        "place": {"lat": place[1], "lon": place[0]},
        "tags": tags if isinstance(tags, str) else list(tags),
        "author": author,
        "likers": likers if isinstance(likers, str) else list(likers),
    }


ROWS = {
    "users": [
        user("Ann", 1, group="g1"),
        user("Bob", 2, ["ann"], "g1", public=0),
        user("Cat", 5, ["ann", "bob"], "g2"),
        user("Dan", 2.5, ["gone"], public=0),
    ],
    "posts": [
        post("p1", "One", 1, 1, {"a": {"b": 1}, "list": ["x", {"y": "z"}]}, ["a"], "ann", ["ann", "bob"], (10, 20)),
        post("p2", "two", 2, 0, "text", ["a", "b"], "bob", ["cat"], (10.5, 20)),
        post("p3", "", 3, 1, None, [], "", []),
        post("p4", "50% off", 4, 0, 5, ["c"], "cat", ["ann", "cat"], (-70, 40)),
        post("p5", "a_b\\c", 5, 0, [1, 2], ["b", "c"], "ann", ["dan"]),
    ],
    "groups": [
        {"id": "g1", "title": "First", "owner": "ann"},
        {"id": "g2", "title": "Second", "owner": "cat"},
        {"id": "g3", "title": "Empty", "owner": ""},
    ],
}

SCHEMA = make_schema()


def signed_in(name, schema=SCHEMA, **more):
    """Make a request of one of the users."""
    row = next(each for each in ROWS["users"] if each["id"] == name)
    return RequestInfo(auth=Identity(schema.find("users"), row), **more)


def ask(collection, text, trust=Trust.RULE, *, schema=SCHEMA, request=None, rows=ROWS, **more):
    """Give the ids, or what `columns` say, that a filter finds; in the order of ids unless there is a sort."""
    request = request or RequestInfo()
    filters = (Filter(text, trust), *more.pop("also", ()))
    more.setdefault("columns", ("id",))
    question = Question(
        collection=schema.find(collection), request=request, now=NOW, filters=filters, **{"sort": "id", **more}
    )
    found = Compiler(schema).select(question)
    database = make_database(schema, rows)
    try:
        answer = database.execute(found.sql, found.args).fetchall()
    finally:
        database.close()
    return [row[0] for row in answer] if len(found.columns) < 2 else answer


def posts(text, trust=Trust.RULE, **more):
    return " ".join(ask("posts", text, trust, **more))


def users(text, trust=Trust.RULE, **more):
    return " ".join(ask("users", text, trust, **more))


def groups(text, trust=Trust.RULE, **more):
    return " ".join(ask("groups", text, trust, **more))
