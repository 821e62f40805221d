"""The address of whoever sent a request, as PocketBase tells it, and lists of addresses. Pure.

The peer of the connection, unless the settings trust headers of a proxy: then the first of them that is there counts,
and in its list the rightmost address (the leftmost, if the settings say so). Not here: what is done with it (`guard`),
the peer of a connection that another node took (`peers`).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from pando.records.app_settings import TrustedProxy

UNKNOWN: Final = "invalid IP"
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def client_address(headers: Mapping[str, str], peer: str, proxy: TrustedProxy) -> str:
    """Give the address of the client, IPv6 written in full; `UNKNOWN` if there is none. `headers` as rules see them."""
    for name in proxy.headers:
        value = headers.get(name.lower().replace("-", "_"), "")
        if value:
            return _of_list(value, from_left=proxy.use_leftmost_ip) or normal(peer) or UNKNOWN
    return normal(peer) or UNKNOWN


def _of_list(value: str, *, from_left: bool) -> str:
    parts = value.split(",")
    found = (normal(part) for part in (parts if from_left else reversed(parts)))
    return next((address for address in found if address), "")


@lru_cache(maxsize=1024)
def normal(text: str) -> str:
    """Write an address in the one way in which it is compared; "" if it is none."""
    try:
        address = ipaddress.ip_address(text.strip().partition("%")[0])
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.exploded


def is_among(address: str, listed: tuple[str, ...]) -> bool:
    """Tell whether an address is one of those listed, or in one of the subnets."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(found.version == each.version and found in each for each in _networks(listed))


@lru_cache(maxsize=16)
def _networks(listed: tuple[str, ...]) -> tuple[_Network, ...]:
    found: list[_Network] = []
    for text in listed:
        try:
            network = ipaddress.ip_network(text.strip(), strict=False)
        except ValueError:
            continue  # what was written before it was checked lets nobody in
        if (
            isinstance(network, ipaddress.IPv6Network)
            and network.network_address.ipv4_mapped
            and network.prefixlen > 95
        ):
            mapped = network.network_address.ipv4_mapped
            network = ipaddress.ip_network(f"{mapped}/{network.prefixlen - 96}", strict=False)
        found.append(network)
    return tuple(found)
