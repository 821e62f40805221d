"""What a subscriber sees of a row that the feed tells."""

import json

import pytest
from records_realtime_site import RealtimeSite

from pando.records.problems import ApiError
from pando.records.realtime.identities import RecordEffect, When
from pando.records.realtime.judge import Judge, identity_of
from pando.records.realtime.topics import NO_OPTIONS, Options

TITLE = {"name": "title", "type": "text"}


@pytest.fixture
def site(tmp_path):
    made = RealtimeSite(tmp_path)
    made.begin()
    made.collection("posts", TITLE, {"name": "added", "type": "number"})
    try:
        yield made
    finally:
        made.close()


async def judge_of(site):
    return Judge(site.desk, await site.desk.known())


async def identity(site, token):
    return identity_of(await site.desk.asking(token, method="POST", query={}, headers={}))


async def allowed(judge, rule="", who=None, options=NO_OPTIONS, **values):
    found = await judge.allowed(judge.schema.find("posts"), {"id": "a", **values}, rule, who, options)
    return None if found is None else json.loads(found)


def test_a_row_needs_not_be_stored_nor_have_all_columns(site):
    async def scenario():
        judge = await judge_of(site)
        assert (await allowed(judge, "title = 't'", title="t", gone=1))["added"] == 0
        assert await allowed(judge, "title = 'x'", title="t") is None
        assert await allowed(judge, "added = 0", title="t") is not None

    site.node.run(scenario())


def test_only_superusers_are_above_rules(site):
    _, token = site.user("ann")

    async def scenario():
        judge = await judge_of(site)
        ann, root = await identity(site, token), await identity(site, site.su)
        assert await identity(site, "") is None
        assert root.is_superuser and not ann.is_superuser
        rule = "@request.auth.id != '' && title = 'x'"
        assert await allowed(judge, rule, root, title="t") is not None
        assert await allowed(judge, rule, ann, title="t") is None
        assert await allowed(judge, rule, ann, title="x") is not None
        assert await allowed(judge, rule, None, title="x") is None

    site.node.run(scenario())


def test_an_identity_whose_collection_is_gone_is_a_guest(site):
    site.collection("staff", type="auth")
    site.create("staff", email="a@example.com", password="correct horse", passwordConfirm="correct horse")
    body = {"identity": "a@example.com", "password": "correct horse"}
    token = site("POST", "collections/staff/auth-with-password", body).json["token"]

    async def scenario():
        judge = await judge_of(site)
        who = await identity(site, token)
        assert await allowed(judge, "@request.auth.id != ''", who) is not None
        assert (await site.ask("DELETE", "collections/staff", token=site.su)).status == 204
        await judge.query("SELECT 1")
        assert judge.schema.find("staff") is None
        assert await allowed(judge, "@request.auth.id != ''", who) is None

    site.node.run(scenario())


def test_filters_that_cannot_be_read_are_errors_of_the_caller(site):
    async def scenario():
        judge = await judge_of(site)
        with pytest.raises(ApiError):
            await allowed(judge, "", None, Options((("filter", "nothing = 1"),)), title="t")
        assert await allowed(judge, "", None, Options((("fields", "title"),)), title="t") == {"title": "t"}

    site.node.run(scenario())


def test_what_many_see_is_made_once_for_each_way_to_see_it(site):
    site.collection("mixed", TITLE, {"name": "secret", "type": "text", "hidden": True})
    tokens = [site.user(name)[1] for name in ("ann", "bob")]

    async def scenario():
        judge = await judge_of(site)
        mixed, values = judge.schema.find("mixed"), {"id": "a", "title": "t", "secret": "s"}
        root, *people = [await identity(site, token) for token in (site.su, *tokens)]
        titles = Options((("fields", "title"),))

        async def sees(who, options=NO_OPTIONS, values=values):
            found = await judge.allowed(mixed, values, "@request.auth.id != ''", who, options)
            return found and json.loads(found)

        for _ in range(2):
            assert "secret" in await sees(root)
            assert all(["secret" not in await sees(who) for who in people])
            assert await sees(root, titles) == await sees(people[0], titles) == {"title": "t"}
            assert await sees(None) is None
        assert (await sees(people[1], values={**values, "title": "other"}))["title"] == "other"

    site.node.run(scenario())


def test_a_caller_is_who_the_identity_is_now(site):
    _, token = site.user("ann")

    async def scenario():
        judge = await judge_of(site)
        ann = await identity(site, token)
        renamed = RecordEffect(ann.key, {**ann.values, "name": "other"}, When.BEFORE).applied_to(ann)
        for who, holds in ((ann, False), (renamed, True), (ann, False)):
            assert (await allowed(judge, "@request.auth.name = 'other'", who) is not None) == holds

    site.node.run(scenario())
