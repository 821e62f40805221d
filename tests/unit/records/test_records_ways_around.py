"""Ways around rules and `hidden` that somebody could try: what is forbidden stays so, and looks alike."""

import asyncio
from random import Random

import pytest
from records_site import CLOSED, NUMBER, SECRET, TEXT, listed, relation

from pando.records.engine import Statement


def found(site, collection, token="", **query):
    """How many records a list has, by its items and by its total, which must agree."""
    answer = listed(site, collection, token, **query)
    assert answer.status == 200, answer.body
    assert len(answer.json["items"]) == answer.json["totalItems"]
    return answer.json["totalItems"]


def alike(one, other, *, but=()):
    """Two answers tell the same, but for names that the caller wrote himself."""
    texts = []
    for answer, names in ((one, but[:1]), (other, but[1:])):
        text = answer.body.decode()
        for name in names:
            text = text.replace(name, "?")
        texts.append((answer.status, text))
    assert texts[0] == texts[1]


# -- hidden fields and addresses in filters and sorts -----------------------------------------------------------------


@pytest.fixture
def shelf(site):
    """Books point to authors; both have something hidden; authors are listed for the signed in only."""
    authors = site.collection("authors", TEXT, SECRET, listRule="@request.auth.id != ''", viewRule="")
    vault = site.collection("vault", TEXT, **CLOSED)
    site.collection(
        "books",
        TEXT,
        SECRET,
        relation("author", authors),
        relation("others", authors, maxSelect=5),
        relation("silent", authors, hidden=True),
        relation("locked", vault),
        {"name": "facts", "type": "json", "hidden": True},
        {"name": "code", "type": "password"},
    )
    site.collection("notes", TEXT, relation("vaulted", vault), relation("of", authors, hidden=True), listRule=None)
    ann = site.create("authors", title="Ann", secret="ann's")
    gold = site.create("vault", title="gold")
    site.create(
        "books",
        title="one",
        secret="s",
        author=ann["id"],
        others=[ann["id"]],
        silent=ann["id"],
        locked=gold["id"],
        facts={"k": "v"},
        code="12345678",
    )
    site.create("notes", title="n", vaulted=gold["id"], of=ann["id"])
    return site


@pytest.mark.parametrize(
    "name",
    [
        *("secret", "secret:lower", "facts.k", "facts", "code", "code:lower"),
        *("silent", "silent.id", "silent.title", "silent:length", "author.secret", "others.secret", "others.silent"),
        *("author.books_via_silent.title", "author.notes_via_of.title", "locked.title", "locked.notes_via_vaulted.id"),
        *("author.books_via_author.secret", "locked.books_via_locked.title"),
    ],
)
def test_what_is_hidden_is_unknown_to_filters_and_sorts(shelf, name):
    never = name.replace(name.split(".")[-1].partition(":")[0], "nowhere")
    for operator in ("=", "!=", "?=", "~", ">"):
        alike(
            listed(shelf, "books", filter=f"{name}{operator}'s'"),
            listed(shelf, "books", filter=f"{never}{operator}'s'"),
            but=(name, never),
        )
    alike(
        listed(shelf, "books", filter=f"strftime('%s',{name})='s'"),
        listed(shelf, "books", filter=f"strftime('%s',{never})='s'"),
        but=(name, never),
    )
    alike(
        listed(shelf, "books", filter=f"geoDistance({name},1,1,1)>0"),
        listed(shelf, "books", filter=f"geoDistance({never},1,1,1)>0"),
        but=(name, never),
    )
    alike(listed(shelf, "books", sort=name), listed(shelf, "books", sort=never), but=(name, never))
    assert listed(shelf, "books", sort=name).status == 400
    assert listed(shelf, "books", filter=f"{name}='s'").status == 400


@pytest.mark.parametrize(
    "filter",
    [
        *("author.title='Ann'", "author.title!=''", "author.title?='Ann'", "author.title~'A'", "others.title='Ann'"),
        *("others.title?~'A'", "author.books_via_author.author.title='Ann'", "author.title>'A'"),
    ],
)
def test_records_that_may_not_be_listed_are_as_absent(shelf, filter):
    _, token = shelf.user("ann")
    assert found(shelf, "books", filter=filter) == 0
    assert found(shelf, "books", filter=f"{filter} || title='nowhere'") == 0
    assert found(shelf, "books", token, filter=filter) == 1


@pytest.mark.parametrize(
    "text",
    [
        *("@request.auth.id=''", "@collection.vault.title='gold'", "title='x'||@collection.vault:a.title='gold'"),
        *("strftime('%s',@request.query.x)=''", "@request.headers.authorization!=''"),
    ],
)
def test_only_superusers_speak_of_requests_and_other_collections(shelf, text):
    _, token = shelf.user("ann")
    for who in ("", token):
        assert listed(shelf, "books", who, filter=text).status == 403
    for name in ("@request.auth.id", "@collection.vault.title", "-@collection.vault.title"):
        assert listed(shelf, "books", sort=name).status == 403
    assert listed(shelf, "books", shelf.su, filter=text).status == 200


@pytest.fixture
def people(site):
    """Everybody may list users; posts point to them. Ann's address is hidden, Bob's is not."""
    site("PATCH", "collections/users", {"listRule": "", "viewRule": ""}, token=site.su)
    users = site("GET", "collections/users", token=site.su).json
    site.collection("posts", TEXT, relation("by", users), relation("readers", users, maxSelect=9))
    ann, ann_token = site.user("ann")
    bob, bob_token = site.user("bob", emailVisibility=True)
    site.create("posts", title="ann's", by=ann["id"], readers=[ann["id"]])
    return site, ann, ann_token, bob, bob_token


FILTERS_OF_ADDRESSES = [
    *("email~'ann'", "email='ann@example.com'", "email:lower='ann@example.com'", "email>='ann'&&email<'anz'"),
    *("email!='x'&&id='{ann}'", "email!~'x'&&id='{ann}'", "'ann@example.com'=email", "'xann@example.comx'~email"),
    *("id='{ann}'&&(email='ann@example.com'||email!='ann@example.com')", "posts_via_by.by.email~'ann'"),
    *(
        "posts_via_readers.readers.email?~'ann'",
        "posts_via_readers.readers.email!='x'",
        "strftime('%d',email)!='x' && id='{ann}'",
    ),
    "strftime('%s',email)='' && id='{ann}'",
]


def test_a_hidden_address_cannot_be_found_out(people):
    site, ann, token, _, bob_token = people
    for filter in FILTERS_OF_ADDRESSES:
        for who in ("", bob_token):
            assert found(site, "users", who, filter=filter.replace("{ann}", ann["id"])) == 0, filter
    assert site("GET", f"collections/users/records/{ann['id']}", token=token).json["email"] == "ann@example.com"


def test_lists_are_not_sorted_by_hidden_addresses(people):
    site, ann, _, _, _ = people
    zoe, _ = site.user("zoe")
    ids = {ann["id"], zoe["id"]}
    for sort in ("email", "-email", "posts_via_by.by.email"):
        order = [each["id"] for each in listed(site, "users", sort=sort).json["items"] if each["id"] in ids]
        assert order == [ann["id"], zoe["id"]], "the order of insertion"


def test_addresses_are_shown_where_they_may_be(people):
    site, ann, token, bob, bob_token = people
    shown = {each["id"]: each.get("email") for each in listed(site, "users", bob_token).json["items"]}
    assert shown == {ann["id"]: None, bob["id"]: "bob@example.com"}
    beside = listed(site, "posts", bob_token, expand="by,readers").json["items"][0]["expand"]
    assert "email" not in beside["by"] and "email" not in beside["readers"][0]
    assert listed(site, "posts", token, expand="by").json["items"][0]["expand"]["by"]["email"] == "ann@example.com"


def test_managers_see_the_addresses_of_those_they_manage_and_no_others(people):
    site, ann, token, bob, bob_token = people
    zoe, _ = site.user("zoe", name="bob's")
    site.create("posts", title="zoe's", by=zoe["id"], readers=[zoe["id"], ann["id"]])
    rule = "name = 'bob\\'s' && @request.auth.id = '" + bob["id"] + "'"
    assert site("PATCH", "collections/users", {"manageRule": rule}, token=site.su).status == 200
    for who, sees in ((bob_token, {bob["id"], zoe["id"]}), (token, {ann["id"], bob["id"]}), ("", {bob["id"]})):
        users = listed(site, "users", who).json["items"]
        assert {each["id"] for each in users if "email" in each} == sees
        expanded = [each["expand"] for each in listed(site, "posts", who, expand="by,readers").json["items"]]
        beside = [one for each in expanded for one in (each["by"], *each["readers"])]
        assert {each["id"] for each in beside if "email" in each} == sees - {bob["id"]}
        assert who == bob_token or found(site, "users", who, filter="email~'zoe'") == 0


def test_a_guess_of_a_hidden_address_looks_the_same_whether_it_is_right(people):
    site, ann, _, _, bob_token = people
    site("PATCH", "collections/users", {"updateRule": "@request.auth.id != ''"}, token=site.su)
    path = f"collections/users/records/{ann['id']}"
    alike(
        site("PATCH", path, {"email": "ann@example.com"}, token=bob_token),
        site("PATCH", path, {"email": "eve@example.com"}, token=bob_token),
    )


def test_secrets_are_in_no_answer(people):
    site, ann, token, _, _ = people
    hashed, key = site.rows("select password, tokenKey from users where id = ?", ann["id"])[0]
    path = f"collections/users/records/{ann['id']}"
    answers = [
        site("GET", path, token=token),
        site("GET", path, token=site.su),
        site("GET", f"{path}?fields=*,password,tokenKey", token=site.su),
        site("PATCH", path, {"name": "x"}, token=site.su),
        site("POST", "collections/users/auth-refresh", token=token),
        site("POST", f"collections/users/impersonate/{ann['id']}", {}, token=site.su),
        listed(site, "posts", site.su, expand="by,readers"),
        site("GET", "collections/users", token=site.su),
    ]
    for answer in answers:
        assert answer.status == 200
        assert hashed not in answer.body.decode() and key not in answer.body.decode()


def test_a_password_of_another_collection_is_never_shown(shelf):
    stored = shelf.rows("select code from books")[0][0]
    assert stored.startswith("$2a$")
    for token in ("", shelf.su):
        assert stored not in listed(shelf, "books", token).body.decode()
    view = {"name": "seen", "type": "view", "viewQuery": "select id, code, title from books", "listRule": ""}
    assert shelf("POST", "collections", view, token=shelf.su).status == 200
    for token in ("", shelf.su):
        answer = listed(shelf, "seen", token)
        assert answer.json["totalItems"] == 1
        assert stored not in answer.body.decode()
    assert listed(shelf, "seen", filter="code~'$2a'").status == 400


# -- expand -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "expand",
    [
        *("silent", "locked", "author.books_via_silent", "author.notes_via_of", "author.notes_via_of.of"),
        *("locked.notes_via_vaulted", "nowhere", "author.secret", "facts", "author.users_via_author"),
    ],
)
def test_what_may_not_be_seen_is_not_expanded(shelf, expand):
    text = listed(shelf, "books", expand=expand).body.decode()
    assert '"expand"' not in text.replace('"expand":{"author":', "", 1)
    assert "gold" not in text and "ann's" not in text


def test_expanding_is_bounded(site):
    boxes = site.collection("boxes", TEXT)
    site.collection("things", TEXT, relation("box", boxes))
    box = site.create("boxes", title="b")
    site.sql(
        "with recursive n(i) as (select 1 union all select i + 1 from n limit 300)"
        " insert into things(id, title, box) select printf('thing%010d', i), i, ? from n",
        box["id"],
    )
    one = f"collections/boxes/records/{box['id']}"
    assert len(site("GET", f"{one}?expand=things_via_box.box").json["expand"]["things_via_box"]) == 300
    around = "things_via_box.box." * 2 + "things_via_box"
    assert site("GET", f"{one}?expand={around}").status == 400, "27 million records"


def test_children_come_once_each_and_no_more_than_a_thousand(site):
    boxes = site.collection("boxes", TEXT)
    site.collection("things", relation("in", boxes, maxSelect=2000), relation("box", boxes))
    site.sql(
        "with recursive n(i) as (select 1 union all select i + 1 from n limit 600)"
        " insert into boxes(id, title) select printf('box%012d', i), i from n"
    )
    site.sql("insert into things(id, `in`) values('thing1', (select json_group_array(id) from boxes))")
    page = listed(site, "boxes", perPage="1000", expand="things_via_in").json["items"]
    assert {len(each["expand"]["things_via_in"]) for each in page} == {1}
    site.sql(
        "with recursive n(i) as (select 1 union all select i + 1 from n limit 1100)"
        " insert into things(id, box) select printf('t%014d', i), 'box000000000001' from n"
    )
    found = site("GET", "collections/boxes/records/box000000000001?expand=things_via_box").json
    assert len(found["expand"]["things_via_box"]) == 1000


# -- what rules see of bodies -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "body"),
    [
        ("@request.body.n <= 10", {"n+": 5}),
        ("@request.body.n <= 10", {"n": 1, "n+": 10}),
        ("@request.body.n:changed = false", {"n+": 8}),
        ("@request.body.n:isset = false", {"n+": 1}),
        ("@request.body.n:isset = false", {"n-": 0}),
        ("@request.body.tags:length <= 2", {"tags+": "c"}),
        ("@request.body.tags:length <= 2", {"+tags": "c"}),
        ("@request.body.tags:each != 'a'", {"tags+": "c"}),
        ("@request.body.tags:changed = false", {"tags-": "a"}),
        ("@request.body.tags:isset = false", {"+tags": "c"}),
        ("@request.body.one:isset = false", {"one+": "c"}),
        ("@request.body.title !~ 'bad%'", {"title:autogenerate": "bad"}),
        ("@request.body.title:isset = false", {"title:autogenerate": ""}),
        ("n < 8", {"n": 1}),
    ],
)
def test_a_rule_about_what_is_sent_sees_what_comes_of_modifiers(site, rule, body):
    tags = {"name": "tags", "type": "select", "values": ["a", "b", "c"], "maxSelect": 3}
    one = {"name": "one", "type": "select", "values": ["a", "b", "c"], "maxSelect": 1}
    site.collection("things", {**TEXT, "autogeneratePattern": "[a-z]{8}"}, NUMBER, tags, one, updateRule=rule)
    record = site.create("things", n=8, tags=["a", "b"], one="a", title="good")
    before = site.rows("select * from things")
    answer = site("PATCH", f"collections/things/records/{record['id']}", body)
    assert (answer.status, site.rows("select * from things")) == (404, before)


def test_two_additions_at_once_do_not_pass_a_rule_that_each_alone_would_pass(site):
    site.collection("things", NUMBER, updateRule="@request.body.n <= 12")
    record = site.create("things", n=8)

    async def all_at_once():
        path = f"collections/things/records/{record['id']}"
        return await asyncio.gather(*[site._ask("PATCH", path, {"n+": 3}, "", {}) for _ in range(6)])

    statuses = sorted(answer.status for answer in site.node.run(all_at_once()))
    assert site.rows("select n from things") == [(11,)], statuses
    assert statuses == [200, 404, 404, 404, 404, 404]


def test_a_create_rule_sees_values_that_were_not_sent(site):
    site.collection("things", TEXT, {**NUMBER}, SECRET, createRule="n = 0 && secret = '' && title != 'x'")
    path = "collections/things/records"
    assert site("POST", path, {"n+": 1}).status == 400
    assert site("POST", path, {"title": "x"}).status == 400
    made = site("POST", path, {"title": "y", "secret": "mine", "secret+": "z", "n-": 0})
    assert made.status == 200
    assert site.rows("select n, secret from things") == [(0, "")]


@pytest.mark.parametrize(
    "body", [{"secret": "x"}, {"secret:autogenerate": ""}, {"rank": 5}, {"rank+": 5}, {"rank-": 5}]
)
def test_hidden_fields_are_not_changed_and_rules_do_not_hear_of_them(site, body):
    secret = {**SECRET, "autogeneratePattern": "[a-z]{8}"}
    sent = "@request.body.secret:isset = true || @request.body.rank:isset = true"
    site.collection("things", secret, {"name": "rank", "type": "number", "hidden": True}, viewRule="", updateRule=sent)
    record = site.create("things", secret="own", rank=1)
    path = f"collections/things/records/{record['id']}"
    assert site("PATCH", path, body).status == 404
    site("PATCH", "collections/things", {"updateRule": ""}, token=site.su)
    assert site("PATCH", path, body).status == 200
    assert site.rows("select secret, rank from things") == [("own", 1)]


def test_a_rule_is_asked_anew_when_another_change_came_in_between(site):
    """The compare-and-set loop: by the second try the record is locked."""
    tags = {"name": "tags", "type": "select", "values": ["a", "b", "c"], "maxSelect": 3}
    site.collection("things", TEXT, tags, updateRule="title = 'open'")
    record = site.create("things", title="open", tags=["a"])
    engine = site.desk.engine

    class Between:
        """Locks the record right before the first write."""

        done = False

        def __getattr__(self, name):
            return getattr(engine, name)

        async def write(self, statements, place=None):
            if not self.done:
                self.done = True
                await engine.write([Statement("update things set title = 'locked', tags = '[\"b\"]'")])
            return await engine.write(statements, place)

    site.desk.engine = Between()
    answer = site("PATCH", f"collections/things/records/{record['id']}", {"tags+": "c"})
    assert (answer.status, site.rows("select title, tags from things")) == (404, [("locked", '["b"]')])


def test_what_is_wrong_with_a_body_does_not_tell_whether_the_record_is_there(site):
    site.collection("things", TEXT, {"name": "place", "type": "geoPoint"}, updateRule="title = 'mine'")
    record = site.create("things", title="other's")
    for body in ({"place": "{"}, {"title": "x" * 6000}, {"n+": 1}, {}, {"title:autogenerate": ""}, b"{"):
        alike(
            site("PATCH", f"collections/things/records/{record['id']}", body),
            site("PATCH", "collections/things/records/aaaaaaaaaaaaaaa", body),
        )


def test_errors_do_not_name_hidden_fields(site):
    index = "CREATE UNIQUE INDEX idx_both ON things (title, secret)"
    site.collection("things", TEXT, SECRET, indexes=[index])
    site.create("things", title="one")
    answer = site("POST", "collections/things/records", {"title": "one"})
    assert (answer.status, "secret" in answer.body.decode()) == (400, False)
    assert answer.code("title") == "validation_not_unique"
    assert site("POST", "collections/things/records", {"title": "one"}, token=site.su).code("secret")
    site.collection("others", TEXT, {**SECRET, "required": True})
    answer = site("POST", "collections/others/records", {"title": "one"})
    assert (answer.status, "secret" in answer.body.decode()) == (400, False)


# -- all at once: what is hidden can be anything ----------------------------------------------------------------------

STEPS = {
    "books": {"author": "authors", "others": "authors", "owner": "users"},
    "authors": {
        **{"friend": "authors", "friends": "authors", "owner": "users", "books_via_author": "books"},
        **{"books_via_others": "books", "authors_via_friend": "authors", "authors_via_friends": "authors"},
    },
    "users": {"books_via_owner": "books", "authors_via_owner": "authors"},
}
LEAVES = {
    "books": ["title", "n", "author", "author.id", "others:length", "others:each", "owner", "id"],
    "authors": ["title", "n", "title:lower", "friend", "friend.id", "friends", "friends:each", "open", "owner"],
    "users": ["email", "email:lower", "name", "emailVisibility", "id"],
}
WORDS = ["'A'", "'B'", "'Ann'", "''", "null", "0", "5", "'x@example.com'", "'a'", "true"]
WORLDS = ["books", "authors", "users"]


def some_path(random, at):
    names = []
    for _ in range(random.choice([0, 1, 1, 2, 3])):
        name, at = random.choice(list(STEPS[at].items()))
        names.append(name)
    return ".".join([*names, random.choice(LEAVES[at])])


def some_filter(random, at, depth=0):
    if depth < 2 and random.random() < 0.4:
        join = random.choice(["&&", "||"])
        return "(" + join.join(some_filter(random, at, depth + 1) for _ in range(2)) + ")"
    operator = random.choice(["=", "!=", ">", "<=", "~", "!~"])
    word = some_path(random, at) if random.random() < 0.2 else random.choice(WORDS)
    return f"{some_path(random, at)}{random.choice(['', '?'])}{operator}{word}"


@pytest.fixture
def worlds(site):
    """Records of which some may not be listed, and a function that makes these into something else."""
    open_ = {"name": "open", "type": "bool"}
    site("PATCH", "collections/users", {"listRule": "", "viewRule": ""}, token=site.su)
    users = site("GET", "collections/users", token=site.su).json
    authors = site.collection("authors", TEXT, NUMBER, open_, SECRET, relation("owner", users), listRule="open = true")
    own = [relation("friend", authors), relation("friends", authors, maxSelect=5)]
    assert site("PATCH", "collections/authors", {"fields": [*authors["fields"], *own]}, token=site.su).status == 200
    more = [relation("author", authors), relation("others", authors, maxSelect=5), relation("owner", users)]
    site.collection("books", TEXT, NUMBER, SECRET, *more)
    people = [site.user("x")[0]["id"], site.user("y", emailVisibility=True)[0]["id"]]
    ids = []
    for number in range(6):
        friends = {"friend": ids[-1], "friends": ids[-2:]} if ids else {}
        values = {"title": "AB"[number % 2], "n": number, "open": number % 3 > 0, "owner": people[number % 2]}
        ids.append(site.create("authors", **values, **friends)["id"])
    for number in range(7):
        others = ids[number % 4 : number % 4 + number % 3]
        values = {"title": "AB"[number % 2], "n": number, "owner": people[number % 2], "others": others}
        site.create("books", **values, author=ids[number - 1] if number else "")

    def other():
        site.sql("update books set secret = 'B'")
        site.sql("update authors set title = 'Ann', n = 5, secret = 'A', owner = '' where open = 0")
        site.sql("update authors set friend = ?, friends = json_array(?) where open = 0", ids[0], ids[5])
        site.sql("update users set email = 'AnnA@example.com', tokenKey = 'B', password = 'B' where id = ?", people[0])

    return site, other


@pytest.mark.parametrize("count", [100, pytest.param(500, marks=pytest.mark.full)])
def test_what_is_hidden_makes_no_difference_to_any_filter_or_sort(worlds, count):
    site, other = worlds
    random = Random(11)
    asks = [(name, {"filter": some_filter(random, name)}) for name in random.choices(WORLDS, k=count)]
    asks += [(name, {"sort": some_path(random, name)}) for name in random.choices(WORLDS, k=count // 6)]

    def told(token="", asks=asks):
        answers = [listed(site, name, token, **ask) for name, ask in asks]
        assert {answer.status for answer in answers} <= {200, 400}
        return [answer.body if answer.status == 200 else b"" for answer in answers]

    before, seen = told(), told(site.su, asks[:20])
    assert sum(map(bool, before)) > count * 0.7
    other()
    assert told(site.su, asks[:20]) != seen, "who may see it sees the difference"
    for ask, one, two in zip(asks, before, told(), strict=True):
        assert one == two, ask
