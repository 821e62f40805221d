"""URLs and options of connections."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pando.client.exceptions import ProgrammingError
from pando.client.targets import Address, Target, make_target
from pando.errors import PandoError


def target(urls, environment=(), **options):
    return make_target(urls, options, dict(environment))


@pytest.mark.parametrize(
    ("url", "nodes"),
    [
        ("pando://a", [("a", 8090, False)]),
        ("pando://a:1,b:2,c", [("a", 1, False), ("b", 2, False), ("c", 8090, False)]),
        ("http://a", [("a", 80, False)]),
        ("https://a:8443/", [("a", 8443, True)]),
        ("libsql://a", [("a", 443, True)]),
        ("libsql://a:8080?tls=0", [("a", 8080, False)]),
        ("pando://a?tls=1", [("a", 8090, True)]),
        ("ws://[::1]:9000", [("::1", 9000, False)]),
        ("pando://a:1?node=b:2&node=c:3", [("a", 1, False), ("b", 2, False), ("c", 3, False)]),
        ("http://a:1,http://b:2/", [("a", 1, False), ("b", 2, False)]),
        (["http://a:1", "http://b:2", "http://a:1"], [("a", 1, False), ("b", 2, False)]),
    ],
)
def test_nodes_of_urls(url, nodes):
    assert target(url).nodes == tuple(Address(*node) for node in nodes)


def test_database_token_and_options():
    found = target("pando://:t%2Bk@a:1/shop?freshness=bounded=20&durability=quorum&retry_s=2.5&autocommit=yes&share=1")
    assert (found.database, found.token, found.freshness, found.durability) == ("shop", "t+k", "bounded=20", "quorum")
    assert (found.retry_s, found.autocommit, found.share) == (2.5, True, True)
    assert target("pando://tok@a").token == "tok"
    assert target("libsql://a?authToken=tok").token == "tok"
    assert target("pando://a/default").database == "data"
    assert target("pando://a", isolation="serializable").isolation == "SERIALIZABLE"


def test_what_is_given_wins_over_the_url_and_that_over_the_environment():
    environment = {"PANDO_TOKEN": "env", "PANDO_URL": "http://env:1"}
    assert target("", environment).nodes == (Address("env", 1),)
    assert target("").nodes == (Address("127.0.0.1", 8090),)
    assert target("pando://a", environment).token == "env"
    assert target("pando://url@a", environment).token == "url"
    found = target("pando://url@a/shop?retry_s=1", environment, token="arg", database="other", retry_s=3)
    assert (found.token, found.database, found.retry_s) == ("arg", "other", 3.0)
    assert target("pando://url@a/shop", token=None, database=None).database == "shop"


def test_the_address_of_a_node_is_a_url():
    assert Address("::1", 1, True).url == "https://[::1]:1"
    assert Address("a", 80).url == "http://a:80"


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("a:8090", {}),
        ("ftp://a", {}),
        ("pando://", {}),
        ("pando://a:b", {}),
        ("pando://a:99999", {}),
        ("pando://a/two/parts", {}),
        ("pando://a?nonsense=1", {}),
        ("pando://a?autocommit=maybe", {}),
        ("pando://a?retry_s=soon", {}),
        ("pando://a?retry_s=-1", {}),
        ("pando://a?retry_s=nan", {}),
        ("pando://a?freshness=old", {}),
        ("pando://a?durability=none", {}),
        ("pando://a?isolation=chaos", {}),
        (["pando://x@a", "pando://y@b"], {}),
        ("pando://a", {"token": "two words"}),
        ("pando://a", {"token": 7}),
        ([], {}),
        ([f"pando://a:{port}" for port in range(1, 100)], {}),
    ],
)
def test_what_cannot_be_is_refused(url, options):
    with pytest.raises(ProgrammingError) as caught:
        target(url, **options)
    assert "x@" not in str(caught.value)


def test_errors_do_not_show_the_token():
    with pytest.raises(ProgrammingError) as caught:
        target("pando://:secret@a:b/x?token=secret")
    assert "secret" not in str(caught.value)


@given(st.text(max_size=60) | st.text(max_size=40).map("pando://{}".format))
def test_any_text_is_a_target_or_refused(text):
    try:
        assert isinstance(target(text), Target)
    except PandoError as error:
        assert isinstance(error, ProgrammingError)
