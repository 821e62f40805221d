import stat

import pytest

from pando.errors import InvalidSetting
from pando.node.secret import BATON_LABEL, LINK_LABEL, SQL_TOKEN_LABEL, derive_key, read_or_create_secret


def test_a_secret_is_made_once_and_only_we_may_read_it(tmp_path):
    first = read_or_create_secret(tmp_path)
    assert len(first) == 64
    assert read_or_create_secret(tmp_path) == first
    path = tmp_path / ".pando" / "secret"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_given_secret_wins_and_is_not_written(tmp_path):
    assert read_or_create_secret(tmp_path, "long enough") == "long enough"
    assert not (tmp_path / ".pando").exists()


def test_short_secrets_are_refused(tmp_path):
    with pytest.raises(InvalidSetting):
        read_or_create_secret(tmp_path, "short")
    (tmp_path / ".pando").mkdir()
    (tmp_path / ".pando" / "secret").write_text("x\n")
    with pytest.raises(InvalidSetting):
        read_or_create_secret(tmp_path)


def test_keys_differ_by_use_and_by_secret():
    labels = (LINK_LABEL, SQL_TOKEN_LABEL, BATON_LABEL)
    keys = {derive_key(secret, label) for secret in ("secret one", "secret two") for label in labels}
    assert len(keys) == 6
    assert all(len(key) == 32 for key in keys)
