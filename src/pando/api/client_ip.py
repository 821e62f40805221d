"""The address of whoever sent a request, as PocketBase tells it. Pure.

The peer of the connection, unless the settings trust headers of a proxy: then the first of them that is there counts,
and in its list the rightmost address (the leftmost, if the settings say so). Not here: what is done with it.
"""

from __future__ import annotations

import ipaddress

from pando.api.http import Scope
from pando.api.records_http import ApiRequest
from pando.records.app_settings import TrustedProxy

UNKNOWN = "invalid IP"


def client_ip(asked: ApiRequest, proxy: TrustedProxy) -> str:
    """Give the address of the client, IPv6 written in full; `UNKNOWN` if there is none."""
    for name in proxy.headers:
        value = asked.headers.get(name.lower().replace("-", "_"), "")
        if value:
            return _of_list(value, from_left=proxy.use_leftmost_ip) or _peer(asked.request.scope)
    return _peer(asked.request.scope)


def _of_list(value: str, *, from_left: bool) -> str:
    parts = value.split(",")
    found = (_normal(part) for part in (parts if from_left else reversed(parts)))
    return next((address for address in found if address), "")


def _peer(scope: Scope) -> str:
    peer = scope.get("client")
    return (_normal(str(peer[0])) or UNKNOWN) if peer else UNKNOWN


def _normal(text: str) -> str:
    try:
        address = ipaddress.ip_address(text.strip().partition("%")[0])
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.exploded
