import asyncio
from email.parser import BytesParser

import pytest
from obstore.store import MemoryStore

from pando.records.files.ranges import Conditions
from pando.records.files.s3_storage import ObjectStorage
from pando.records.files.serving import answer_file
from pando.records.files.storage import FileMissing

KEY = "c1/r1/a_1.png"
CONTENT = bytes(range(256)) * 10


async def answered(asked, *, name="a_1.png", is_gone=False, **more):
    kept = ObjectStorage(MemoryStore())
    await kept.put(KEY, CONTENT, content_type="image/png", size_max=1 << 20)
    stored = await kept.head(KEY)
    if is_gone:
        await kept.delete(KEY)
    found = answer_file(kept, stored, name, asked(stored), boundary="XX", **more)
    body = None if found.body is None else b"".join([piece async for piece in found.body])
    assert body is None or len(body) == int(found.headers["Content-Length"])
    return found.status, found.headers, body, stored


def answer(asked=lambda stored: Conditions(), **more):
    return asyncio.run(answered(asked, **more))


def test_a_whole_file():
    status, headers, body, stored = answer()
    assert (status, body) == (200, CONTENT)
    assert headers["Content-Type"] == "image/png" and headers["ETag"] == stored.etag
    assert headers["Content-Disposition"] == 'inline; filename="a_1.png"'
    assert answer(is_download=True)[1]["Content-Disposition"] == 'attachment; filename="a_1.png"'


@pytest.mark.parametrize("header", ["", "bytes=1-2", "bytes=1-2,5-6"])
def test_head_has_the_headers_of_get_and_no_body(header):
    got, head = (answer(lambda _, method=method: Conditions(method=method, range=header)) for method in ("GET", "HEAD"))
    assert head[:2] == got[:2] and head[2] is None and got[2]


def test_one_range():
    status, headers, body, _ = answer(lambda _: Conditions(range="bytes=10-19"))
    assert (status, body) == (206, CONTENT[10:20])
    assert headers["Content-Range"] == f"bytes 10-19/{len(CONTENT)}"


def test_several_ranges():
    status, headers, body, _ = answer(lambda _: Conditions(range="bytes=0-3,-4"))
    assert status == 206 and "Content-Range" not in headers
    message = BytesParser().parsebytes(f"Content-Type: {headers['Content-Type']}\r\n\r\n".encode() + body)
    assert [(part["Content-Range"], part["Content-Type"]) for part in message.get_payload()] == [
        ("bytes 0-3/2560", "image/png"),
        ("bytes 2556-2559/2560", "image/png"),
    ]
    assert CONTENT[:4] in body and CONTENT[-4:] in body


def test_what_has_not_changed_is_not_sent():
    status, headers, body, stored = answer(lambda stored: Conditions(if_none_match=stored.etag))
    assert (status, body, headers["ETag"]) == (304, None, stored.etag)
    assert "Content-Length" not in headers and "Content-Type" not in headers


def test_refusals():
    status, headers, body, _ = answer(lambda _: Conditions(range="bytes=9999-"))
    assert (status, body, headers["Content-Range"]) == (416, b"invalid range: failed to overlap\n", "bytes */2560")
    assert headers["Content-Length"] == str(len(body)) and "Content-Security-Policy" in headers
    assert answer(lambda _: Conditions(if_match='"other"'))[0] == 412


def test_a_file_that_went_meanwhile_is_missing_when_it_is_read():
    with pytest.raises(FileMissing):
        answer(is_gone=True)
