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


def ask(world, collection, asked, **more):
    found = Compiler(world.schema).select(
        Question(collection=collection, request=world.request, now=NOW, filters=asked, columns=("id",), **more)
    )
    note(f"{found.sql} {found.args}")
    database = make_database(world.schema, world.rows)
    try:
        return database.execute(found.sql, found.args).fetchall()
    finally:
        database.close()


@st.composite
def asked_worlds(draw):
    world = draw(worlds())
    collection = draw(st.sampled_from(world.schema.collections))
    rule = draw(st.one_of(st.just(""), filters(world.schema, collection, False)))
    client = draw(st.one_of(st.just(""), filters(world.schema, collection, True)))
    return world, collection, rule, client


@pytest.mark.slow
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(asked_worlds())
def test_compiled_filters_agree_with_the_slow_evaluator(asked):
    world, collection, rule, client = asked
    note(f"rule {rule!r} client {client!r} rows {world.rows} request {world.request}")
    asked = (Filter(rule, Trust.RULE), Filter(client, Trust.CLIENT))
    expected = sorted(row["id"] for row in find(world, collection, [(rule, False), (client, True)]))
    assert sorted(row[0] for row in ask(world, collection, asked)) == expected
    assert ask(world, collection, asked, count=True) == [(len(expected),)]
