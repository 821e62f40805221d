import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pando.records.fields.addresses import host_of, is_email, is_url


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a@example.com", True),
        ("first.last+tag@sub.example.co", True),
        ("o'brien_%x@example.com", True),
        ("ü@exämple.com", True),
        ('"a b"@example.com', True),
        ('"a\\"b"@example.com', True),
        ("a@1.com", True),
        ("a@example.com.", True),
        ("__pbinstaller@example.com", True),
        ("", False),
        ("a", False),
        ("@example.com", False),
        ("a@", False),
        ("a@localhost", False),
        ("a@example.c1", False),
        ("a@127.0.0.1", False),
        ("a@-example.com", False),
        ("a@example..com", False),
        ("a..b@example.com", False),
        (".a@example.com", False),
        ("a.@example.com", False),
        ("a b@example.com", False),
        ("a@b@example.com", False),
        ("a@exa mple.com", False),
        ("a@example.com\n", False),
        ("<a@example.com>", False),
        ("a\u0000@example.com", False),
        ("x" * 65 + "@example.com", False),
        ("a@" + "x" * 320 + ".com", False),
    ],
)
def test_e_mail_addresses(text, expected):
    assert is_email(text) == expected


@pytest.mark.parametrize(
    ("text", "expected", "host"),
    [
        ("https://example.com", True, "example.com"),
        ("http://example.com:8080/a/b?c=d#e", True, "example.com:8080"),
        ("ftp://user:pass@example.com/", True, "example.com"),
        ("wss://sub.exämple.com", True, "sub.exämple.com"),
        ("HTTPS://EXAMPLE.COM", True, "EXAMPLE.COM"),
        ("http://localhost:8090", True, "localhost:8090"),
        ("http://127.0.0.1/x", True, "127.0.0.1"),
        ("http://[::1]:80/", True, "[::1]:80"),
        ("https://example.com/?q=a@b", True, "example.com"),
        ("example.com", True, ""),
        ("example.com/path", True, ""),
        ("", False, None),
        ("a.b", False, None),
        ("example", False, None),
        ("http://", False, None),
        ("http:///path", False, None),
        ("https://.example.com", False, None),
        ("https://exa mple.com", False, None),
        ("https://example.com/a b", False, None),
        ("https://-a.com", False, None),
        ("http://256.1.1.1", False, None),
        ("http://[::g]/", False, None),
        ("http://example.com:0", False, None),
        ("http://example.com:65536", False, None),
        ("http://example.com:x", False, None),
        ("javascript://example.com", False, None),
        ("javascript:alert(1)", False, None),
        ("mailto:a@example.com", False, None),
        ("/path/only", False, None),
        ("http://example.com/" + "x" * 2083, False, None),
    ],
)
def test_urls(text, expected, host):
    assert is_url(text) == expected
    if expected:
        assert host_of(text) == host


@settings(deadline=None)
@given(text=st.one_of(st.text(max_size=30), st.text("ab1@.:/[]?# -_", max_size=30)))
def test_any_text_is_one_or_not(text):
    assert is_email(text) in (True, False) and is_url(text) in (True, False)
    assert isinstance(host_of(text), str)
