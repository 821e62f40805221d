"""What a client's filters and sorts may name, and what they cannot find out."""

import pytest
from records_filter_samples import ask, groups, posts, signed_in, users
from records_filter_world import make_schema

from pando.records.filter import Filter, FilterError, RequestInfo, Trust
from pando.records.problems import ApiError

CLIENT, SUPERUSER, RULE = Trust.CLIENT, Trust.SUPERUSER, Trust.RULE
ROOT = RequestInfo(is_superuser=True)

FORBIDDEN = [
    "@collection.users.id != ''",
    "@request.auth.id != ''",
    "title = '@request.x'",
    "(@collection.",
    "// @request.",
]


@pytest.mark.parametrize("text", FORBIDDEN)
def test_requests_and_collections_are_for_rules_and_superusers(text):
    with pytest.raises(ApiError) as caught:
        posts(text, CLIENT)
    assert caught.value.status == 403
    with pytest.raises(ApiError) as caught:
        posts("", sort=text)
    assert caught.value.status == 403


def test_superusers_may_name_them():
    assert posts("@collection.users.name ?= 'Ann' && @request.auth.id = ''", SUPERUSER) == "p1 p2 p3 p4 p5"
    assert ask("posts", "", request=ROOT, sort="@request.auth.id,-id")[0] == "p5"


HIDDEN = [
    *("secret = 's'", "secret != 's'", "secret ~ 's'", "friends.secret ?= 's'", "posts_via_author.author.secret = 's'"),
    *("geoDistance(secret, 1, 1, 1) > 0", "strftime('%Y', secret) = ''", "secret:lower = 's'"),
]


@pytest.mark.parametrize("text", HIDDEN)
def test_hidden_fields_are_unknown_to_clients(text):
    with pytest.raises(ApiError) as caught:
        users(text, CLIENT)
    with pytest.raises(ApiError) as unknown:
        users(text.replace("secret", "nosuch"), CLIENT)
    assert caught.value.status == unknown.value.status == 400
    assert caught.value.message.replace("secret", "nosuch") == unknown.value.message
    assert users(text, SUPERUSER) == users(text, RULE)


@pytest.mark.parametrize("sort", ["secret", "-secret", "name,secret", "friends.secret"])
def test_hidden_fields_are_unknown_to_sorts(sort):
    with pytest.raises(ApiError) as caught:
        users("", sort=sort)
    assert caught.value.status == 400
    assert len(ask("users", "", request=ROOT, sort=sort)) == 4


# -- addresses --------------------------------------------------------------------------------------------------------

ADDRESSES = [  # those of Bob and Dan are not public
    ("email ~ 'example'", "ann cat"),
    ("email = 'bob@example.org'", ""),
    ("email != 'x'", "ann cat"),
    ("email:lower ~ '@'", "ann cat"),
    ("email ?~ 'example' || name = 'Dan'", "ann cat dan"),
    ("friends.email ?= 'bob@example.org'", ""),
    ("friends.email ?= 'ann@example.org'", "bob cat"),
    ("friends.email != 'x'", "bob"),
    ("friends.email != 'bob@example.org'", "bob"),
    ("strftime('%Y', email) = ''", "ann cat"),
]


@pytest.mark.parametrize(("text", "expected"), ADDRESSES)
def test_addresses_are_found_where_they_are_public(text, expected):
    assert users(text, CLIENT) == expected


def test_rules_and_superusers_find_all_addresses():
    assert users("email ~ 'example'", RULE) == users("email ~ 'example'", SUPERUSER) == "ann bob cat dan"


def test_sorts_do_not_tell_addresses():
    found = ask("users", "", sort="-email,id")
    assert found == ["cat", "ann", "bob", "dan"]
    assert ask("users", "", request=ROOT, sort="-email") == ["dan", "cat", "bob", "ann"]


# -- list rules of other collections ----------------------------------------------------------------------------------

OWN = make_schema(rules=("id = @request.auth.id", "", ""))
ANN = signed_in("ann", OWN)

RELATIONS = [  # Ann may list herself only; p3 has no author and no likers
    ("author.name = 'Ann'", "p1 p5"),
    ("author.name ?= 'Bob'", ""),
    ("author.name != 'Bob'", "p1 p3 p5"),
    ("author.name != 'Ann'", "p3"),
    ("author.name = ''", "p3"),
    ("title = 'two' || author.name = 'Ann'", "p1 p5"),
    ("author.id != ''", "p1 p2 p4 p5"),
    ("author != ''", "p1 p2 p4 p5"),
    ("likers.name ?= 'Ann'", "p1 p4"),
    ("likers.name = 'Ann'", "p1 p4"),
    ("likers.name ?= 'Cat'", ""),
    ("likers.name != 'Cat'", "p1 p3 p4"),
    ("likers.level >= 1 && likers.level <= 1", "p1 p4"),
    ("likers:each ?= 'cat'", "p2 p4"),
    ("likers.id ?= 'cat'", ""),
]


@pytest.mark.parametrize(("text", "expected"), RELATIONS)
def test_relations_lead_to_what_a_client_may_list_or_nowhere(text, expected):
    assert posts(text, CLIENT, schema=OWN, request=ANN) == expected
    count = ask("posts", text, CLIENT, schema=OWN, request=ANN, count=True)
    assert count == [len(expected.split())]


BACK = [
    ("users_via_group.name ?= 'Ann'", "g1"),
    ("users_via_group.name ?= 'Bob'", ""),
    ("users_via_group.name = 'Ann'", "g1"),
    ("users_via_group.name = ''", "g2 g3"),
    ("users_via_group.name != 'Cat'", "g1 g2 g3"),
    ("users_via_group.level < 2", "g1"),
]


@pytest.mark.parametrize(("text", "expected"), BACK)
def test_records_that_a_client_may_not_list_do_not_exist_for_back_relations(text, expected):
    assert groups(text, CLIENT, schema=OWN, request=ANN) == expected


def test_rules_and_superusers_are_not_held_by_list_rules():
    for trust in (RULE, SUPERUSER):
        assert posts("author.name != 'Bob'", trust, schema=OWN, request=ANN) == "p1 p3 p4 p5"
        assert posts("likers.name != 'Cat'", trust, schema=OWN, request=ANN) == "p1 p3 p5"


def test_a_rule_beside_a_clients_filter_sees_all():
    also = (Filter("likers.name != 'Bob'", RULE),)
    assert posts("likers.name ?= 'Ann'", CLIENT, schema=OWN, request=ANN) == "p1 p4"
    assert posts("likers.name ?= 'Ann'", CLIENT, schema=OWN, request=ANN, also=also) == "p4"


def test_sorts_are_held_by_list_rules():
    found = ask("posts", "", schema=OWN, request=ANN, sort="author.name,id")
    assert found == ["p3", "p1", "p5"]
    assert ask("posts", "", schema=OWN, request=ANN, sort="author.name", count=True) == [3]
    assert ask("posts", "", schema=OWN, request=ROOT, sort="-author.name,id") == ["p4", "p2", "p1", "p5", "p3"]
    # p2 and p5 are liked only by others; of the likers of p1 and p4 Ann alone counts
    assert ask("posts", "", schema=OWN, request=ANN, sort="-likers.name,id") == ["p1", "p4", "p3"]


def test_list_rules_that_read_further_records():
    schema = make_schema(rules=("group.owner = @request.auth.id || friends.name ?= 'Bob'", "", ""))
    ann = signed_in("ann", schema)  # she owns the group of Bob and herself; Cat has Bob for a friend
    assert posts("author.name ?!= ''", CLIENT, schema=schema, request=ann) == "p1 p2 p4 p5"
    assert posts("likers.name ?!= ''", CLIENT, schema=schema, request=ann) == "p1 p2 p4"
    assert posts("author.name ?!= ''", CLIENT, schema=schema, request=signed_in("dan", schema)) == "p4"


NONE = make_schema(rules=(None, None, ""))


@pytest.mark.parametrize("text", ["author.name = 'Ann'", "likers.id = 'ann'", "likers.posts_via_author.id = ''"])
def test_collections_that_only_superusers_list_are_unknown(text):
    with pytest.raises(ApiError) as caught:
        posts(text, CLIENT, schema=NONE)
    assert (caught.value.status, "unknown field" in caught.value.message) == (400, True)
    with pytest.raises(ApiError):
        posts("", sort=text.partition(" ")[0], schema=NONE)
    assert posts(text, RULE, schema=NONE) == posts(text, SUPERUSER, schema=NONE)


def test_nothing_tells_a_back_relation_that_may_not_be_listed_from_none():
    messages = set()
    for name in ("posts_via_author", "nosuch_via_author", "posts_via_nosuch"):
        with pytest.raises(ApiError) as caught:
            users(f"{name}.title = 'One'", CLIENT, schema=NONE)
        messages.add(caught.value.message.replace(name, ""))
    assert len(messages) == 1


def test_a_list_rule_that_cannot_be_read_is_not_shown():
    broken = make_schema(rules=("nothing = 'here is what it says'", "", ""))
    with pytest.raises(ApiError) as caught:
        posts("author.name = 'Ann'", CLIENT, schema=broken)
    assert "nothing" not in caught.value.message


# -- injection --------------------------------------------------------------------------------------------------------

ATTEMPTS = [
    "title = 'x' OR 1=1",
    "title = 'x\" OR 1=1 --'",
    r"title = 'x\' OR 1=1 --'",
    "title = '); DROP TABLE posts; --'",
    "title ~ '%\\' || (SELECT secret FROM users) || \\''",
    'meta.a" = 1',
    "meta.a'] = 1",
    '"title" = 1',
    "title) = 1 || (1 = 1",
    'posts_via_author".id = 1',
    "strftime('%Y', 'now'); SELECT 1",
    "geoDistance(1, 2, 3, 4)) > 0 || (1 > 0",
    "a = 1 UNION SELECT 1",
    "title = x'41'",
    "title = ?1",
    "title = :p",
    "[title] = 1",
    "title = 'a' /* x */",
]


@pytest.mark.parametrize("text", ATTEMPTS)
def test_nothing_that_a_client_says_becomes_sql(text):
    try:
        found = posts(text, CLIENT)
    except ApiError as error:
        assert error.status == 400
    else:
        assert found == ""


def test_rules_raise_filter_errors_and_clients_api_errors():
    with pytest.raises(FilterError):
        posts("nothing = 1", RULE)
    for trust in (CLIENT, SUPERUSER):
        with pytest.raises(ApiError) as caught:
            posts("nothing = 1", trust)
        assert caught.value.status == 400
