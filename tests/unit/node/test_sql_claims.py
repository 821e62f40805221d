import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pando.errors import Forbidden, PandoError, Unauthorized, UnknownDatabase
from pando.node.claims import NEVER_MS, Scope, Scopes, access_of, check_times, read_claims


def access(claims, **more):
    return access_of(read_claims(msgspec.json.encode(claims)), **more)


def rights(found, *databases):
    """What may be done with each database: "-", "r" or "w"."""
    shown = ""
    for name in databases:
        try:
            found.check_database(name)
        except UnknownDatabase:
            shown += "-"
            continue
        try:
            found.check_write(name)
            shown += "w"
        except Forbidden:
            shown += "r"
    return shown


@pytest.mark.parametrize(
    ("claims", "shown"),
    [
        ({}, "www"),
        ({"a": "rw"}, "www"),
        ({"a": "ro"}, "rrr"),
        ({"id": "one"}, "w--"),
        ({"id": "one", "a": "ro"}, "r--"),
        ({"db": ["one", "data"]}, "w-w"),
        ({"id": "default"}, "--w"),
        ({"p": None, "a": "ro"}, "rrr"),
        ({"p": {}}, "---"),
        ({"p": {"rw": {}}}, "---"),
        ({"id": "three", "a": "ro", "p": {"rw": {"ns": ["one"]}}}, "w--"),
        ({"p": {"ro": {"ns": ["one"]}, "rw": {"ns": ["two"]}}}, "rw-"),
        ({"p": {"roa": {"ns": ["one"]}, "rwa": {"ns": ["two"]}}}, "rw-"),
        ({"p": {"ddl": {"ns": ["one"]}}}, "w--"),
        ({"p": {"ro": {"ns": ["one"]}, "ddl": {"ns": ["one"]}}}, "w--"),
        ({"p": {"ro": {"ns": ["one", "two", "default"]}}}, "rrr"),
        ({"p": {"ro": {"ns": ["../x", "one"]}}}, "r--"),
        ({"p": {"ro": {"tags": ["blue"]}, "rw": {"ns": ["two"]}}}, "rwr"),
        ({"p": {"rw": {"tags": ["blue"]}, "ro": {"ns": ["two"]}}}, "www"),
        ({"p": {"rw": {"tags": ["red"]}, "ro": {"ns": ["two"]}}}, "-r-"),
    ],
)
def test_rights(claims, shown):
    found = access(claims, tag="blue")
    assert rights(found, "one", "two", "data") == shown
    assert found.is_admin is False


def test_a_tag_counts_only_where_one_is_set():
    assert rights(access({"p": {"rw": {"tags": [""]}}}), "one") == "-"
    assert rights(access({"p": {"rw": {"tags": ["blue"]}}}), "one") == "-"


def test_who_does_not_say_which_database_may_write_only_if_all_may_be_written():
    assert access({"p": {"rw": {"ns": ["one"]}}}).may_write("")
    mixed = access({"p": {"ro": {"ns": ["one"]}, "rw": {"ns": ["two"]}}})
    with pytest.raises(Forbidden):
        mixed.check_write()


@pytest.mark.parametrize(
    ("claims", "is_admin"),
    [
        ({"admin": True}, True),
        ({"admin": True, "a": "ro"}, False),
        ({"admin": True, "id": "one"}, False),
        ({"admin": True, "p": {"rw": {"ns": ["one"]}}}, False),
        ({"admin": False}, False),
    ],
)
def test_only_an_unrestricted_token_is_an_administrators(claims, is_admin):
    assert access(claims, may_be_admin=True).is_admin is is_admin
    assert access(claims).is_admin is False


def test_the_system_database_is_for_administrators_and_written_by_nobody():
    assert rights(access({"admin": True}, may_be_admin=True), "_pando") == "r"
    assert rights(access({}), "_pando") == "-"
    assert rights(access({"id": "_pando"}), "_pando") == "-"
    assert rights(access({"p": {"rw": {"tags": ["t"]}}}, tag="t"), "_pando") == "-"


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b"null",
        b"\xff",
        b'{"a": "admin"}',
        b'{"a": 1}',
        b'{"id": 7}',
        b'{"p": []}',
        b'{"p": {"rw": []}}',
        b'{"p": {"rw": {"ns": "one"}}}',
        b'{"exp": "soon"}',
        b'{"exp": true}',
        b'{"exp": -1}',
        b'{"exp": 1e13}',
        b'{"nbf": -1}',
        b'{"jti": 7}',
    ],
)
def test_claims_that_mean_nothing_are_refused(payload):
    with pytest.raises(Unauthorized) as caught:
        read_claims(payload)
    assert caught.value.code == "AUTH_JWT_INVALID"


def times(claims, now_s, leeway_s=0):
    return check_times(read_claims(msgspec.json.encode(claims)), now_s * 1000, leeway_s)


def test_times():
    assert times({}, 1000) == NEVER_MS
    assert times({"exp": 1001}, 1000) == 1_001_000
    assert times({"exp": 1000.5}, 1000) == 1_000_500
    with pytest.raises(Unauthorized) as caught:
        times({"exp": 1000}, 1000)
    assert caught.value.code == "AUTH_JWT_EXPIRED"
    assert times({"exp": 941}, 1000, 60) == 1_001_000
    with pytest.raises(Unauthorized):
        times({"exp": 940}, 1000, 60)
    with pytest.raises(Unauthorized) as caught:
        times({"nbf": 1001}, 1000)
    assert caught.value.code == "AUTH_JWT_IMMATURE"
    assert times({"nbf": 1060}, 1000, 60) == NEVER_MS


NAMES = st.lists(st.sampled_from(["one", "two", "data", "_pando"]), max_size=3)
SCOPES = st.none() | st.builds(Scope, ns=st.none() | NAMES, tags=st.none() | st.lists(st.sampled_from(["t", "u"])))


@given(st.builds(Scopes, ro=SCOPES, rw=SCOPES, roa=SCOPES, rwa=SCOPES, ddl=SCOPES))
def test_scopes_allow_what_they_name_and_nothing_else(scopes):
    found = access_of(read_claims(msgspec.json.encode({"p": scopes})), tag="t")

    def covers(scope, name):
        return scope is not None and (name in (scope.ns or ()) or "t" in (scope.tags or ()))

    for name in ("one", "two", "data"):
        may_write = any(covers(scope, name) for scope in (scopes.rw, scopes.rwa, scopes.ddl))
        may_read = may_write or any(covers(scope, name) for scope in (scopes.ro, scopes.roa))
        assert rights(found, name) == ("w" if may_write else "r" if may_read else "-")


@given(st.binary(max_size=200) | st.recursive(st.none() | st.text() | st.floats() | st.integers(), st.lists))
def test_any_payload_gives_claims_or_a_clear_error(content):
    payload = (
        content if isinstance(content, bytes) else msgspec.json.encode({"id": content, "p": content, "exp": content})
    )
    try:
        access_of(read_claims(payload))
    except PandoError as error:
        assert error.status == 401
