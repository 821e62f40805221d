import pytest

from pando.api.client_ip import UNKNOWN, client_ip
from pando.api.http import Request
from pando.api.records_http import read_request
from pando.records.app_settings import TrustedProxy

FORWARDED = TrustedProxy(headers=("X-Forwarded-For",))


@pytest.mark.parametrize(
    ("peer", "headers", "proxy", "expected"),
    [
        (("10.0.0.1", 5), {}, TrustedProxy(), "10.0.0.1"),
        (("10.0.0.1", 5), {"x-forwarded-for": "1.1.1.1"}, TrustedProxy(), "10.0.0.1"),
        (
            ("10.0.0.1", 5),
            {"x-forwarded-for": "2.2.2.2, 1.1.1.1"},
            FORWARDED,
            "1.1.1.1",
        ),
        (
            ("10.0.0.1", 5),
            {"x-forwarded-for": "x, 2.2.2.2, 1.1.1.1"},
            TrustedProxy(headers=("X-Real-IP", "X-Forwarded-For"), use_leftmost_ip=True),
            "2.2.2.2",
        ),
        (("10.0.0.1", 5), {"x-forwarded-for": "what"}, FORWARDED, "10.0.0.1"),
        (("::1", 5), {}, TrustedProxy(), "0000:0000:0000:0000:0000:0000:0000:0001"),
        (("::ffff:10.0.0.1", 5), {}, TrustedProxy(), "10.0.0.1"),
        (None, {}, TrustedProxy(), UNKNOWN),
    ],
)
def test_the_address_is_the_peers_or_what_a_trusted_header_says(peer, headers, proxy, expected):
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"method": "GET", "path": "/api/x", "raw_path": b"/api/x", "query_string": b"", "headers": pairs}
    assert client_ip(read_request(Request({**scope, "client": peer}, None)), proxy) == expected
