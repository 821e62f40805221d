"""Compiled filters find what the slow evaluator finds, on random data, for random filters."""

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from records_filter_reference import World, find
from records_filter_world import NOW, filters, make_database, make_schema, records, requests

from pando.records.filter import Compiler, Filter, Question, Trust

LIST_RULES = ["", "id = @request.auth.id", "@request.auth.id != ''"]
USER_RULES = [*LIST_RULES, "friends.id ?= @request.auth.id", "posts_via_author.public ?= true && level > 0"]
POST_RULES = [*LIST_RULES[1:], "public = true", "author.id ?= @request.auth.id || likers.name ~ 'a'"]


@st.composite
def worlds(draw):
    schema = make_schema(
        group_most=draw(st.sampled_from([1, 3])),
        author_most=draw(st.sampled_from([1, 3])),
        tags_most=draw(st.sampled_from([1, 3])),
        is_owner_unique=draw(st.booleans()),
        rules=(draw(st.sampled_from(USER_RULES)), draw(st.sampled_from(POST_RULES)), draw(st.sampled_from(LIST_RULES))),
        manage=draw(st.sampled_from([None, "level > @request.auth.level", "group.owner = @request.auth.id"])),
    )
    rows = {each.name: draw(records(each)) for each in schema.collections}
    return World(schema, rows, draw(requests(schema, rows)), NOW)


def ask(world, database, collection, asked, **more):
    found = Compiler(world.schema).select(
        Question(collection=collection, request=world.request, now=NOW, filters=asked, columns=("id",), **more)
    )
    note(f"{found.sql} {found.args}")
    return database.execute(found.sql, found.args).fetchall()


@st.composite
def asked_worlds(draw):
    """Draw a world and some questions: collection, rule, a client's filter."""
    world = draw(worlds())
    asked = []
    for _ in range(draw(st.integers(1, 6))):
        collection = draw(st.sampled_from(world.schema.collections))
        rule, client = (filters(world.schema, collection, is_client) for is_client in (False, True))
        both = st.one_of(st.tuples(rule, st.just("")), st.tuples(st.just(""), client), st.tuples(rule, client))
        asked.append((collection, *draw(both)))
    return world, asked


def check(world, asked):
    """Compare what is found for all questions; give how many found some but not all."""
    telling = 0
    database = make_database(world.schema, world.rows)
    try:
        for collection, rule, client in asked:
            note(f"{collection.name}: rule {rule!r}, client {client!r}, {world.rows} {world.request}")
            expected = sorted(row["id"] for row in find(world, collection, [(rule, False), (client, True)]))
            questions = (Filter(rule, Trust.RULE), Filter(client, Trust.CLIENT))
            assert sorted(row[0] for row in ask(world, database, collection, questions)) == expected
            assert ask(world, database, collection, questions, count=True) == [(len(expected),)]
            telling += 0 < len(expected) < len(world.rows[collection.name])
    finally:
        database.close()
    return telling


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(asked_worlds())
def test_compiled_filters_agree_with_the_slow_evaluator(asked):
    check(*asked)


@pytest.mark.full
@settings(max_examples=2000, deadline=None, suppress_health_check=list(HealthCheck))
@given(asked_worlds())
def test_compiled_filters_agree_with_the_slow_evaluator_for_long(asked):
    check(*asked)
