"""From calls to requests, and from another node's answers to errors."""

import asyncio

import msgspec
import pytest

from pando.api.http import Response
from pando.api.records_forms import FormLimits, read_parts
from pando.api.records_http import envelope
from pando.embedded.calling import Asked, _body_of, _request, refusal
from pando.errors import InvalidRequest
from pando.records.fields.forms import read_form
from pando.records.problems import ApiError, Problem, ValidationFailed


def request_of(asked, token=""):
    return _request(asked, *_body_of(asked), token)


def test_a_call_becomes_a_request():
    asked = Asked(
        method="PATCH", segments=("collections", "a/b", "records", "ü"), query={"expand": "x,y"}, body={"n": 1}
    )
    made = request_of(asked, "token")
    assert made.segments == asked.segments and made.authorization == "token"
    assert made.request.scope["raw_path"] == b"/api/collections/a%2Fb/records/%C3%BC"
    assert made.request.scope["query_string"] == b"expand=x%2Cy"
    assert asyncio.run(made.json()) == {"n": 1}
    assert made.headers["content_length"] == "7"


def test_a_call_without_values_has_no_body():
    made = request_of(Asked(method="GET", segments=("health",)))
    assert asyncio.run(made.request.body()) == b"" and made.request.headers == []


def test_files_go_as_a_form_with_the_values_beside_them(tmp_path):
    path = tmp_path / "b.png"
    path.write_bytes(b"picture")
    files = {"doc": ('a"\r\n.txt', b"--text--"), "photos+": [path, ("c", b"")]}
    made = request_of(Asked(method="POST", segments=("x",), body={"title": "1.0", "deep": {"a": [1]}}, files=files))
    limits = FormLimits(body=10_000, texts=10_000)

    async def parts():
        return await read_parts(made.request.chunks(), made.headers["content_type"], limits)

    form = asyncio.run(parts())
    assert read_form(form.texts) == {"title": "1.0", "deep": {"a": [1]}}
    body = asyncio.run(request_of(Asked(method="POST", segments=("x",), files=files)).request.body())
    assert body.count(b"filename=") == 3
    assert b'filename="a%22%0D%0A.txt"' in body and b"content-type: image/png\r\n\r\npicture\r\n" in body


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (Asked(method="POST", segments=("x",), body={"a": object()}), "cannot be written as JSON"),
        (Asked(method="POST", segments=("x",), files={"a": __import__("pathlib").Path("/no/such")}), "cannot be read"),
    ],
)
def test_what_cannot_be_sent_is_refused(asked, words):
    with pytest.raises(InvalidRequest, match=words):
        _body_of(asked)


@pytest.mark.parametrize(
    "error",
    [
        ApiError(404, "The requested resource wasn't found."),
        ValidationFailed({"title": Problem("validation_required", "Cannot be blank.")}),
        ValidationFailed({"a": {"0": {"b": Problem("validation_min", "Too small.", {"min": 1})}}}),
    ],
)
def test_an_error_of_another_node_is_the_same_error(error):
    made = refusal(envelope(error))
    assert (made.status, made.message, made.data) == (error.status, error.message, error.data)


def test_an_answer_that_cannot_be_read_keeps_its_status():
    for body in (b"<html>", msgspec.json.encode([1])):
        made = refusal(Response(502, [], body))
        assert isinstance(made, ApiError) and made.status == 502
