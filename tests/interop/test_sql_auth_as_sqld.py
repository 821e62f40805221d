"""Who is let in, and how who is not is told so: the same by Pando as by a real sqld with the same key."""

import http.client
import json
import time
from base64 import urlsafe_b64encode

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from served_nodes import served_nodes
from sqld_program import served_sqld
from websockets.sync.client import connect

pytestmark = [pytest.mark.full, pytest.mark.slow, pytest.mark.timeout(120)]

PRIVATE, STRANGER = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
PUBLIC = urlsafe_b64encode(PRIVATE.public_key().public_bytes_raw()).decode().rstrip("=")
NOW_S = int(time.time())
ANSWER_S = 20


def signed(claims, key=PRIVATE):
    return "Bearer " + jwt.encode(claims, key, algorithm="EdDSA")


ASKED = {
    "nothing": None,
    "a word": "abc",
    "no token": "Bearer ",
    "garbage": "Bearer x",
    "basic": "Basic eDp5",
    "another scheme": "Digest x",
    "small letters": signed({}).replace("Bearer", "bearer"),
    "everything": signed({}),
    "another key": signed({}, STRANGER),
    "a secret": "Bearer " + jwt.encode({}, "k" * 32),
    "expired": signed({"exp": NOW_S - 100}),
    "expired, within a minute": signed({"exp": NOW_S - 20}),
    "for ever": signed({"exp": NOW_S + 10**9}),
    "an audience": signed({"aud": "x"}),
    "rw": signed({"a": "rw"}),
    "ro": signed({"a": "ro"}),
    "roa": signed({"a": "roa"}),
    "no right": signed({"a": "admin"}),
    "own database": signed({"id": "default"}),
    "another database": signed({"id": "another"}),
    "own database, ro": signed({"id": "default", "a": "ro"}),
    "no scopes": signed({"p": {}}),
    "scope rw": signed({"p": {"rw": {"ns": ["default", "another"]}}}),
    "scope ro": signed({"p": {"ro": {"ns": ["default"]}}}),
    "scope rwa": signed({"p": {"rwa": {"ns": ["default"]}}}),
    "scope roa": signed({"p": {"roa": {"ns": ["default"]}}}),
    "scope ddl": signed({"p": {"ddl": {"ns": ["default"]}}}),
    "scope of another": signed({"p": {"rw": {"ns": ["another"]}}}),
    "scope beats id": signed({"id": "default", "a": "rw", "p": {"ro": {"ns": ["default"]}}}),
    "tag": signed({"p": {"rw": {"tags": ["blue"]}}}),
    "another tag": signed({"p": {"rw": {"tags": ["red"]}}}),
    "scope that is none": signed({"p": {"rw": 7}}),
}


@pytest.fixture(scope="module")
def addresses(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SQLD_AUTH_JWT_KEY", PUBLIC)
        patch.setenv("LIBSQL_GID", "blue")
        folder = tmp_path_factory.mktemp("auth")
        with served_sqld(folder / "sqld") as sqld, served_nodes(folder, roles=("primary", "replica")) as nodes:
            yield {"sqld": sqld, **nodes.addresses}


def status(address, authorization, sql):
    connection = http.client.HTTPConnection(address, timeout=ANSWER_S)
    body = {"requests": [{"type": "execute", "stmt": {"sql": sql}}, {"type": "close"}]}
    try:
        headers = {} if authorization is None else {"Authorization": authorization}
        connection.request("POST", "/v2/pipeline", json.dumps(body), headers)
        return connection.getresponse().status
    finally:
        connection.close()


def hello(address, token):
    with connect(f"ws://{address}", subprotocols=["hrana3"], compression=None) as socket:
        socket.send(json.dumps({"type": "hello", "jwt": token}))
        answer = json.loads(socket.recv(timeout=ANSWER_S))
        return answer["error"]["code"] if answer["type"] == "hello_error" else "welcome"


@pytest.mark.parametrize("name", ASKED)
def test_over_http(addresses, name):
    found = {
        who: (
            status(address, ASKED[name], "SELECT 1"),
            status(address, ASKED[name], "CREATE TABLE IF NOT EXISTS t (a)"),
        )
        for who, address in addresses.items()
    }
    assert found["primary"] == found["replica"] == found["sqld"]


@pytest.mark.parametrize(
    "name", [name for name, value in ASKED.items() if value is None or value.startswith("Bearer ")]
)
def test_over_websocket(addresses, name):
    token = ASKED[name] and ASKED[name].removeprefix("Bearer ")
    if not token and name != "nothing":
        pytest.skip("an empty token is none with us")
    expected = hello(addresses["sqld"], token)
    if expected == "welcome" and status(addresses["sqld"], ASKED[name], "SELECT 1") == 404:
        expected = "UNKNOWN_DATABASE"  # sqld says so when a stream is opened
    assert hello(addresses["primary"], token) == hello(addresses["replica"], token) == expected
