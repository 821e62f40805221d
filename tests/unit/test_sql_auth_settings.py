"""The settings of who may ask: our names and sqld's, files of keys, what is wrong with them."""

from base64 import b64encode, urlsafe_b64encode

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from pando.errors import InvalidSetting
from pando.settings import Settings, load_settings

PRIVATE = [Ed25519PrivateKey.generate() for _ in range(3)]
RAW = [key.public_key().public_bytes_raw() for key in PRIVATE]
PEM = [key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode() for key in PRIVATE]
SHORT = [urlsafe_b64encode(raw).decode().rstrip("=") for raw in RAW]
SECRET = PRIVATE[0].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def loaded(**environ):
    return load_settings(environ=environ)


def test_what_is_not_said_is_not_there():
    settings = Settings()
    assert (settings.sql_http_auth, settings.sql_jwt_key, settings.sql_jwt_key_file) == ("", (), None)
    assert (settings.sql_token_tag, settings.sql_freshness) == ("", "session")


def test_the_names_of_sqld(tmp_path):
    (tmp_path / "keys.pem").write_text(PEM[1] + PEM[2])
    settings = loaded(
        SQLD_AUTH_JWT_KEY=SHORT[0],
        SQLD_AUTH_JWT_KEY_FILE=str(tmp_path / "keys.pem"),
        SQLD_HTTP_AUTH="basic:" + b64encode(b"me:se:cret").decode(),
        LIBSQL_GID="blue",
    )
    assert settings.sql_jwt_key == tuple(RAW)
    assert (settings.sql_http_auth, settings.sql_token_tag) == ("me:se:cret", "blue")


def test_our_names_and_the_file(tmp_path):
    (tmp_path / "keys").write_text(SHORT[0])
    (tmp_path / "pando.toml").write_text(f'sql_jwt_key_file = "{tmp_path}/keys"\nsql_freshness = "bounded=250"\n')
    settings = load_settings(config=tmp_path / "pando.toml", environ={"PANDO_SQL_JWT_KEY": PEM[1]})
    assert settings.sql_jwt_key == (RAW[1], RAW[0])
    assert settings.sql_freshness == "bounded=250"
    assert loaded(PANDO_SQL_FRESHNESS="Strong").sql_freshness == "strong"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("SQLD_HTTP_AUTH", "always"),
        ("SQLD_HTTP_AUTH", "basic:"),
        ("SQLD_HTTP_AUTH", "basic:***"),
        ("SQLD_HTTP_AUTH", "basic:" + b64encode(b"no colon").decode()),
        ("SQLD_HTTP_AUTH", "bearer:" + b64encode(b"me:secret").decode()),
        ("SQLD_HTTP_AUTH", "basic:" + b64encode(b"\xff:\xff").decode()),
        ("SQLD_AUTH_JWT_KEY", "short"),
        ("SQLD_AUTH_JWT_KEY", SECRET),
        ("SQLD_AUTH_JWT_KEY_FILE", "not/there"),
        ("PANDO_SQL_FRESHNESS", "newest"),
        ("PANDO_SQL_FRESHNESS", "bounded"),
    ],
)
def test_what_cannot_be_used_stops_the_start(name, text):
    with pytest.raises(InvalidSetting) as caught:
        loaded(**{name: text})
    assert "sql_" in caught.value.message
    assert SECRET.splitlines()[1] not in caught.value.message


def test_a_private_key_in_the_file_is_told_apart_and_not_shown(tmp_path):
    (tmp_path / "key").write_text(SECRET)
    with pytest.raises(InvalidSetting, match="private key") as caught:
        loaded(SQLD_AUTH_JWT_KEY_FILE=str(tmp_path / "key"))
    assert SECRET.splitlines()[1] not in caught.value.message


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"x" * 70_000])
def test_a_file_without_keys_is_an_error(tmp_path, content):
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(InvalidSetting, match="sql_jwt_key_file"):
        loaded(SQLD_AUTH_JWT_KEY_FILE=str(tmp_path / "key"))


def test_what_is_secret_is_not_shown():
    settings = loaded(SQLD_HTTP_AUTH="basic:" + b64encode(b"me:secret").decode())
    assert "me:secret" not in repr(settings)
