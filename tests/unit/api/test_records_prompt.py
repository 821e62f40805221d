import asyncio
import inspect

import pytest

from pando.api.http import Response
from pando.api.records_app import Reuse
from pando.api.records_prompt import BODY_BYTES_MAX, PromptRecords

HOST = (b"host", b"localhost")
URL = b"/api/collections/posts/records?page=2"


class App:
    """Answers with a function; `settled` is what the database shows."""

    def __init__(self, respond, expires_ms=None):
        self.respond, self.expires_ms = respond, expires_ms
        self.settled, self.now_ms, self.asked = (1, 1), 0, 0
        self.is_lasting = True

    async def respond_for(self, request):
        self.asked += 1
        return await self.respond(request), Reuse(self.settled, self.expires_ms) if self.is_lasting else None

    def is_right_still(self, reuse):
        return reuse.basis == self.settled and (reuse.expires_ms is None or self.now_ms < reuse.expires_ms)


def asked(respond, method=b"GET", url=URL, headers=(HOST,), body=b""):
    return PromptRecords(App(respond))(method, url, list(headers), body)


async def echo(request):
    body = await request.body()
    scope = request.scope
    text = f"{scope['method']} {scope['path']} {scope['query_string'].decode()} ".encode() + body
    return Response(201, [(b"x-one", b"1")], text)


def test_a_read_that_does_not_wait_is_answered_at_once():
    status, head, body = asked(echo)
    assert status == 201
    assert body == b"GET /api/collections/posts/records page=2 "
    assert head == b"x-one: 1\r\ncontent-length: %d\r\n" % len(body)


@pytest.mark.parametrize("method", [b"POST", b"PATCH", b"DELETE"])
def test_what_writes_waits_as_a_task(method):
    answering = asked(echo, method, body=b"{}")
    assert inspect.iscoroutine(answering)
    status, _, body = asyncio.run(answering)
    assert (status, body.endswith(b"{}")) == (201, True)


def test_no_content_has_no_length():
    async def none(_request):
        return Response(204, [(b"x-one", b"1")])

    assert asked(none) == (204, b"x-one: 1\r\n", b"")


@pytest.mark.parametrize(
    ("method", "headers", "body"),
    [
        (b"OPTIONS", [HOST], b""),
        (b"HEAD", [HOST], b""),
        (b"GET", [HOST, (b"origin", b"http://elsewhere")], b""),
        (b"POST", [HOST, (b"content-type", b"multipart/form-data; boundary=x")], b""),
        (b"POST", [HOST], b"x" * (BODY_BYTES_MAX + 1)),
    ],
)
def test_what_needs_more_is_declined(method, headers, body):
    async def never(_request):
        raise AssertionError("declined requests are not begun")

    assert asked(never, method, headers=headers, body=body) is None


def test_a_read_that_waits_after_all_goes_on_as_a_task():
    async def scenario():
        event = asyncio.Event()

        async def waits(_request):
            await event.wait()
            await asyncio.sleep(0)
            return Response(200, [], b"late")

        answering = asked(waits)
        assert inspect.iscoroutine(answering)
        task = asyncio.ensure_future(answering)
        await asyncio.sleep(0)
        assert not task.done()
        event.set()
        return await task

    assert asyncio.run(scenario())[2] == b"late"


def test_a_read_that_is_cancelled_hears_of_it():
    async def scenario():
        heard = []

        async def waits(_request):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                heard.append("cancelled")
                raise

        task = asyncio.ensure_future(asked(waits))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return heard

    assert asyncio.run(scenario()) == ["cancelled"]


def test_a_bug_in_a_read_that_waits_is_raised_in_its_task():
    async def scenario():
        async def fails(_request):
            await asyncio.sleep(0)
            raise ValueError("a bug")

        with pytest.raises(ValueError, match="a bug"):
            await asked(fails)

    asyncio.run(scenario())


# -- answers that are kept --------------------------------------------------------------------------------------------


async def fine(request):
    return Response(200, [], request.scope["query_string"] + b"!" * 100)


def get(prompt, url=URL, headers=(HOST,)):
    return prompt(b"GET", url, list(headers), b"")


def test_an_answer_is_given_again_while_nothing_changed():
    app = App(fine)
    prompt = PromptRecords(app)
    assert get(prompt) == get(prompt)
    assert app.asked == 1
    app.settled = (1, 2)
    get(prompt)
    assert app.asked == 2, "a commit came in between"
    get(prompt)
    assert app.asked == 2


@pytest.mark.parametrize(
    ("url", "headers"),
    [(URL + b"&x=1", (HOST,)), (URL, (HOST, (b"authorization", b"t"))), (URL, ((b"x-custom", b"1"), HOST))],
)
def test_whatever_a_request_says_makes_it_another_one(url, headers):
    app = App(fine)
    prompt = PromptRecords(app)
    get(prompt)
    get(prompt, url, headers)
    assert app.asked == 2


def test_an_answer_ends_with_its_token():
    app = App(fine, expires_ms=1000)
    prompt = PromptRecords(app)
    get(prompt)
    app.now_ms = 999
    get(prompt)
    assert app.asked == 1
    app.now_ms = 1000
    get(prompt)
    assert app.asked == 2


def test_answers_of_clock_or_chance_and_errors_are_not_kept():
    app = App(fine)
    app.is_lasting = False
    prompt = PromptRecords(app)
    get(prompt)
    get(prompt)
    assert app.asked == 2

    async def missing(_request):
        return Response(404, [], b"{}")

    app = App(missing)
    prompt = PromptRecords(app)
    get(prompt)
    get(prompt)
    assert app.asked == 2


def test_what_is_kept_is_bounded_and_the_longest_unused_goes_first():
    app = App(fine)
    prompt = PromptRecords(app, kept_bytes_max=1500)
    urls = [URL + b"%d" % number for number in range(3)]
    get(prompt, urls[0])
    get(prompt, urls[1])
    get(prompt, urls[0])
    get(prompt, urls[2])
    assert app.asked == 3
    get(prompt, urls[0])
    assert app.asked == 3
    get(prompt, urls[1])
    assert app.asked == 4
    assert prompt._kept_bytes <= 1500
