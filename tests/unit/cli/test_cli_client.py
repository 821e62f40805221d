import io

import pytest

from pando.cli.client import Answer, Client, Unreachable, parse_url, read_error
from pando.errors import InvalidRequest, PandoError, SqlError


def test_values_survive_the_way_to_the_server_and_back(server):
    values = (None, 0, -(2**63), 2**63 - 1, 1.5, "", "Ærø", b"", b"\x00\xff\x01")
    with Client(server.url) as client:
        rows = client.execute("SELECT " + ", ".join("?" * len(values)), values)
    assert rows.rows == [values]
    assert [type(value) for value in rows.rows[0]] == [type(value) for value in values]


def test_a_bookmark_is_sent_with_the_next_request(server):
    with Client(server.url) as client:
        client.execute("SELECT 1")
        client.execute("SELECT 1")
        assert client.bookmark == "data.1.2"
    assert [headers.get("pando-bookmark") for *_, headers in server.requests] == [None, "data.1.1"]


def test_token_and_database_are_sent(server):
    with Client(server.url, token="t1") as client:
        client.execute("SELECT 1", database="other")
    headers = server.requests[0][3]
    assert headers["authorization"] == "Bearer t1"
    assert headers["x-namespace"] == "other"


def test_a_transaction_spans_calls_and_close_rolls_it_back(server):
    with Client(server.url) as client:
        stream = client.stream()
        client.execute("CREATE TABLE t (a)")
        stream.execute("BEGIN")
        assert stream.is_open
        stream.execute("INSERT INTO t VALUES (1)")
        stream.close()
        assert not stream.is_open
        assert client.execute("SELECT count(*) FROM t").rows == [(0,)]


def test_a_batch_stops_at_the_first_failing_statement(server):
    with Client(server.url) as client:
        stream = client.stream()
        answers = stream.batch([{"sql": "SELECT 1"}, {"sql": "SELECT nothing"}, {"sql": "SELECT 3"}])
    assert answers[0].rows == [(1,)]
    assert isinstance(answers[1], SqlError)
    assert answers[2] is None


def test_a_failing_statement_raises_with_the_code_of_the_server(server):
    with Client(server.url) as client, pytest.raises(SqlError, match="no such table") as caught:
        client.execute("SELECT * FROM missing")
    assert caught.value.code == "SQLITE_ERROR"


def test_an_address_without_a_server_names_the_next_step(server):
    with (
        Client("http://127.0.0.1:1") as client,
        pytest.raises(Unreachable, match=r"no server at http://127.0.0.1:1: start one with `pando serve`"),
    ):
        client.get_json("/health")


@pytest.mark.parametrize(
    ("body", "message", "code"),
    [
        (b'{"error": "the token does not hold", "code": "AUTH_INVALID"}', "the token does not hold", "AUTH_INVALID"),
        (b'{"error": {"message": "no", "code": "AUTH_INVALID"}}', "no", "AUTH_INVALID"),
        (b'{"message": "no", "code": "X"}', "no", "X"),
        (b"plain", "plain", "HTTP_401"),
        (b"", "answered with status 401", "HTTP_401"),
    ],
)
def test_refusals_are_read_in_every_form(server, body, message, code):
    server.fail_next.append((401, {}, body))
    with Client(server.url) as client, pytest.raises(PandoError) as caught:
        client.execute("SELECT 1")
    assert message in caught.value.message
    assert "--token" in caught.value.message
    assert caught.value.code == code
    assert caught.value.status == 401


def test_a_connection_that_the_server_closed_is_opened_anew(server):
    with Client(server.url) as client:
        server.fail_next.append((200, {"connection": "close"}, b"{}"))
        assert client.get_json("/health") == {}
        assert client.execute("SELECT 7").rows == [(7,)]


def test_a_server_that_is_no_pando_is_told_so(server):
    server.routes["GET", "/cluster/status"] = b"<html>"
    with Client(server.url) as client, pytest.raises(PandoError, match="does not answer as a Pando server"):
        client.get_json("/cluster/status")


def test_upload_and_download_carry_bytes(server):
    data = bytes(range(256)) * 5000
    server.routes["GET", "/cluster/export"] = data
    with Client(server.url) as client:
        client.upload("/cluster/import", {"name": "a"}, iter([data[:1000], data[1000:]]), len(data))
        target = io.BytesIO()
        assert client.download("/cluster/export", {"database": "a"}, target) == len(data)
    assert server.uploads["a"] == data
    assert target.getvalue() == data


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://a:1", "http://a:1"),
        ("127.0.0.1:8090", "http://127.0.0.1:8090"),
        ("https://a/", "https://a:443"),
        ("libsql://a.b", "https://a.b:443"),
        ("http://[::1]:8090/x/", "http://[::1]:8090/x"),
    ],
)
def test_addresses(text, url):
    assert parse_url(text).url == url


@pytest.mark.parametrize("text", ["", "ftp://a", "http://", "http://a:port", "http://a:99999"])
def test_what_is_no_address_is_refused(text):
    with pytest.raises(InvalidRequest, match="write http://HOST:PORT"):
        parse_url(text)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, b"<html>"),
        (501, b"nothing"),
        (400, b" <!DOCTYPE html>"),
        (404, b'{"message": "not found", "status": 404}'),
    ],
)
def test_another_server_at_the_address_is_told_as_such(status, body):
    error = read_error(Answer(status=status, content_type="", body=body), "http://a:1")
    assert (error.code, error.retryable) == ("NOT_PANDO", False)
    assert (
        error.message == f"http://a:1 does not answer as a Pando server (status {status}): --url names another address"
    )
    ours = b'{"error": "there is none", "code": "UNKNOWN_DATABASE"}'
    assert read_error(Answer(status=404, content_type="", body=ours), "u").code == "UNKNOWN_DATABASE"
    assert read_error(Answer(status=400, content_type="", body=b"Received an invalid baton"), "u").code == "HTTP_400"


def test_a_download_that_cannot_be_written_does_not_blame_the_server(server):
    class Full:
        def write(self, data):
            raise OSError(28, "No space left on device")

    server.routes["GET", "/cluster/export"] = b"x"
    with Client(server.url) as client, pytest.raises(OSError, match="No space left"):
        client.download("/cluster/export", {}, Full())
