import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pando import limits
from pando.records.problems import ValidationFailed
from pando.records.realtime.topics import (
    NO_OPTIONS,
    Options,
    RuleKind,
    check_request,
    parse_subscription,
    topics_of,
)


def with_options(topic, options):
    return f"{topic}?options={quote(json.dumps(options), safe='')}"


@pytest.mark.parametrize(
    ("text", "topic", "options"),
    [
        ("posts/*", "posts/*", NO_OPTIONS),
        ("posts/abc", "posts/abc", NO_OPTIONS),
        ("posts", "posts", NO_OPTIONS),
        ("my custom topic", "my custom topic", NO_OPTIONS),
        ("", "", NO_OPTIONS),
        ("posts/*?", "posts/*", NO_OPTIONS),
        ("posts/*?options=", "posts/*", NO_OPTIONS),
        ("posts/*?options=%7Bnot", "posts/*", NO_OPTIONS),
        ("posts/*?options=[1]", "posts/*", NO_OPTIONS),
        ("posts/*?options=" + "[" * 2000, "posts/*", NO_OPTIONS),
        ('posts/*?options={"query":7}', "posts/*", NO_OPTIONS),
        ('posts/*?other=1&options={"query":{"a":"b"}}', "posts/*", Options((("a", "b"),))),
        (with_options("p/*", {"query": {"filter": "a = '&?#'"}}), "p/*", Options((("filter", "a = '&?#'"),))),
        (with_options("p/*", {"headers": {"X-My-Key": "v"}}), "p/*", Options((), (("x_my_key", "v"),))),
        (
            with_options("p/*", {"query": {"t": True, "n": 2.0, "f": 1.5, "i": 7, "z": None, "l": [1], "d": {"a": 1}}}),
            "p/*",
            Options((("d", ""), ("f", "1.5"), ("i", "7"), ("l", ""), ("n", "2"), ("t", "true"), ("z", ""))),
        ),
        ("a/*?b?options={}", "a/*", NO_OPTIONS),
    ],
)
def test_a_subscription_is_taken_apart(text, topic, options):
    found = parse_subscription(text)
    assert (found.text, found.topic, found.options) == (text, topic, options)


@given(st.text(max_size=300), st.dictionaries(st.text(), st.text()), st.dictionaries(st.text(), st.text()))
def test_options_come_back_as_they_were_sent(topic, query, headers):
    topic = topic.replace("?", "")
    found = parse_subscription(with_options(topic, {"query": query, "headers": headers}))
    assert found.topic == topic
    assert dict(found.options.query) == query
    assert {name.lower().replace("-", "_") for name in headers} == {name for name, _ in found.options.headers}


@given(st.text(alphabet=st.sampled_from('posts/*?options={}"&%[]1e9,:\\u'), max_size=200))
def test_any_text_is_a_subscription(text):
    found = parse_subscription(text)
    assert found.text == text
    assert text.startswith(found.topic)


def test_options_are_found_by_name():
    options = Options((("expand", "author"), ("filter", "a=1")))
    assert (options.get("filter"), options.get("expand"), options.get("fields")) == ("a=1", "author", "")


def test_equal_options_are_equal_however_they_were_written():
    first = parse_subscription('p/*?options={"query":{"a":"1","b":"2"}}')
    second = parse_subscription('p/*?options={"query":{"b":2,"a":"1"},"headers":{}}')
    assert first.options == second.options
    assert hash(first.options) == hash(second.options)


def test_a_change_belongs_to_topics_by_name_and_by_id():
    assert topics_of(("posts", "pbc_1"), "r1") == {
        "posts/*": RuleKind.LIST,
        "posts": RuleKind.LIST,
        "posts/r1": RuleKind.VIEW,
        "pbc_1/*": RuleKind.LIST,
        "pbc_1": RuleKind.LIST,
        "pbc_1/r1": RuleKind.VIEW,
    }


def test_a_good_request_gives_each_subscription_once():
    found = check_request("x", ["posts/*", "", "posts/a", "posts/*"])
    assert [each.text for each in found] == ["posts/*", "posts/a"]
    assert check_request("x" * 255, []) == ()


@pytest.mark.parametrize(
    ("client_id", "subscriptions", "codes"),
    [
        ("", [], {"clientId": "validation_required"}),
        ("x" * 256, [], {"clientId": "validation_length_out_of_range"}),
        ("x", ["t"] * 1001, {"subscriptions": "validation_length_too_long"}),
        ("x", ["ok", "t" * 2501], {"subscriptions": {"1": "validation_length_too_long"}}),
        ("x", ["a\nb", "ok", "\r", "\ud800"], {"subscriptions": dict.fromkeys("023", "validation_invalid_value")}),
        (
            "",
            ["t" * 2501],
            {"clientId": "validation_required", "subscriptions": {"0": "validation_length_too_long"}},
        ),
    ],
)
def test_a_bad_request_is_told_what_is_wrong(client_id, subscriptions, codes):
    with pytest.raises(ValidationFailed) as refused:
        check_request(client_id, subscriptions)
    assert refused.value.status == 400

    def plain(found):
        return {name: plain(each) if isinstance(each, dict) else each.code for name, each in found.items()}

    assert plain(refused.value.data) == codes


def test_the_longest_that_is_allowed_is_taken():
    texts = [f"{number:04}".ljust(limits.REALTIME_TOPIC_CHARS_MAX, "x") for number in range(limits.REALTIME_TOPICS_MAX)]
    assert len(check_request("x", texts)) == limits.REALTIME_TOPICS_MAX
