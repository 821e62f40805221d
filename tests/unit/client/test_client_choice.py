"""Which node is next, and which bookmark counts."""

from hypothesis import given
from hypothesis import strategies as st

from pando.client.nodes import (
    AWAY_S_MAX,
    AWAY_S_MIN,
    DATABASES_MAX,
    PRIMARY_KNOWN_S,
    PRIMARY_UNKNOWN_S,
    Bookmarks,
    Nodes,
)
from pando.client.sharing import bookmarks_of, nodes_of
from pando.client.targets import Address

A, B, C = (Address(name, 1) for name in "abc")


def turns(nodes, count, now=0.0, **options):
    return [nodes.choose(now, writes=False, **options) for _ in range(count)]


def test_reads_go_around():
    assert turns(Nodes([A, B, C]), 6) == [B, C, A, B, C, A]
    assert turns(Nodes([A]), 2) == [A, A]


def test_a_node_that_failed_is_left_out_for_longer_each_time():
    nodes = Nodes([A, B])
    nodes.failed(A, 0.0)
    assert set(turns(nodes, 4, AWAY_S_MIN / 2)) == {B}
    assert set(turns(nodes, 4, AWAY_S_MIN)) == {A, B}
    nodes.failed(A, 1.0)
    assert set(turns(nodes, 4, 1.0 + AWAY_S_MIN)) == {B}
    for _ in range(5000):
        nodes.failed(A, 10.0)
    assert nodes.is_away(A, 9.9 + AWAY_S_MAX) and not nodes.is_away(A, 10.0 + AWAY_S_MAX)
    nodes.worked(A)
    assert set(turns(nodes, 4, 10.0)) == {A, B}


def test_when_all_are_away_the_one_that_is_back_first_is_asked():
    nodes = Nodes([A, B])
    nodes.failed(A, 1.0)
    nodes.failed(B, 0.9)
    assert turns(nodes, 2, 1.0) == [B, B]
    assert turns(nodes, 1, 1.0, tried={B}) == [A]
    assert turns(nodes, 1, 1.0, tried={A, B}) == [B]


def test_writes_go_to_the_primary_while_it_is_here():
    nodes = Nodes([A, B, C])
    nodes.primary_is(C, 0.0)
    assert {nodes.choose(0.0, writes=True) for _ in range(4)} == {C}
    assert nodes.choose(0.0, writes=True, tried={C}) in {A, B}
    nodes.failed(C, 0.0)
    assert nodes.primary is None
    assert {nodes.choose(0.0, writes=True) for _ in range(4)} == {A, B}


def test_the_primary_is_asked_for_now_and_then():
    nodes = Nodes([A, B])
    assert nodes.primary_is_wanted(0.0)
    assert not nodes.primary_is_wanted(1.0)
    assert nodes.primary_is_wanted(PRIMARY_KNOWN_S)
    nodes.forget_primary()
    assert nodes.primary_is_wanted(PRIMARY_KNOWN_S)
    nodes.primary_is(None, 100.0)
    assert not nodes.primary_is_wanted(100.0) and nodes.primary_is_wanted(100.0 + PRIMARY_UNKNOWN_S)
    assert not Nodes([A]).primary_is_wanted(0.0)


@given(st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 2**40), st.sampled_from(["data", "shop"]))))
def test_the_newest_bookmark_of_each_database_counts(seen):
    bookmarks = Bookmarks()
    for epoch, txid, database in seen:
        bookmarks.note(f"{database}.{epoch:x}.{txid:x}")
    for database in ("data", "shop"):
        places = [(epoch, txid) for epoch, txid, of in seen if of == database]
        expected = "{}.{:x}.{:x}".format(database, *max(places)) if places else ""
        assert bookmarks.of(database) == expected


def test_bookmarks_that_are_none_are_ignored_and_their_number_is_bounded():
    bookmarks = Bookmarks()
    bookmarks.note("nonsense")
    bookmarks.note("")
    for number in range(DATABASES_MAX + 5):
        bookmarks.note(f"d{number}.1.1")
    assert bookmarks.of("d0") == "" and bookmarks.of(f"d{DATABASES_MAX + 4}")


def test_connections_of_a_process_share_nodes_and_if_asked_bookmarks():
    assert nodes_of((A, B)) is (kept := nodes_of((B, A)))
    assert nodes_of((A,)) is not kept
    shared = bookmarks_of((A, B), share=True)
    assert bookmarks_of((B, A), share=True) is shared
    assert bookmarks_of((A, B), share=False) is not shared
