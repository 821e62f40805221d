"""Files over the routes: uploaded in forms, kept with their record, served, removed."""

import pytest
from records_site import Site

PNG = (
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00\x1f\x15\xc4\x89"
    b"\x00\x00\x00\rIDATx\x9cc\xf8\xcf\xc0\xf0\x1f\x00\x05\x00\x01\xff\x89\x99=\x1d\x00\x00\x00\x00IEND\xaeB`\x82"
)
TITLE = {"name": "title", "type": "text"}
ONE = {"name": "one", "type": "file", "maxSelect": 1}
MANY = {"name": "many", "type": "file", "maxSelect": 3}


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path).begin()
    yield made
    made.close()


def test_an_upload_is_stored_and_served(site):
    made = site.collection("docs", TITLE, ONE)
    answer = site.form("POST", "collections/docs/records", ("title", "x"), ("one", ("My Note.txt", b"hello world")))
    assert answer.status == 200, answer.body
    record = answer.json
    assert record["title"] == "x"
    assert record["one"].startswith("my_note_") and record["one"].endswith(".txt")
    assert site.stored() == [f"{made['id']}/{record['id']}/{record['one']}"]
    path = f"files/docs/{record['id']}/{record['one']}"
    got = site("GET", path)
    assert (got.status, got.body, got.headers["content-length"]) == (200, b"hello world", "11")
    assert got.headers["content-type"] == "text/plain; charset=utf-8"
    assert "x-frame-options" not in got.headers
    head = site("HEAD", path)
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", "11")
