"""The address of whoever sent a request; on its way from node to node the peer of its connection travels, signed.

Not here: what the address is (`pando.records.guarding.addresses`), what is done with it (`pando.api.records_guard`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from pando.api.http import Request, Scope
from pando.api.records_http import ApiRequest
from pando.clock import Clock
from pando.records.app_settings import TrustedProxy
from pando.records.guarding.addresses import UNKNOWN, client_address
from pando.records.guarding.peers import HEADER, PeerProofs

__all__ = ["UNKNOWN", "client_ip", "peer_of", "sealed", "told_peer"]

_NAME: Final = HEADER.encode()
_KEY: Final = HEADER.replace("-", "_")


def client_ip(asked: ApiRequest, proxy: TrustedProxy) -> str:
    """Give the address of the client, IPv6 written in full; `UNKNOWN` if there is none."""
    return client_address(asked.headers, peer_of(asked.request.scope), proxy)


def peer_of(scope: Scope) -> str:
    """Give the other end of a connection, "" for one without an address."""
    peer = scope.get("client")
    return str(peer[0]) if peer else ""


def told_peer(asked: ApiRequest, proofs: PeerProofs | None, clock: Clock) -> tuple[ApiRequest, bool]:
    """Take what another node says of its client for the peer, and the header away; tell whether a node said it."""
    text = asked.headers.get(_KEY)
    if text is None:
        return asked, False
    peer = None
    if proofs is not None:
        peer = proofs.read(text, asked.method, _url(asked.request.scope), clock.wall_ms() // 1000)
    scope = {**asked.request.scope, "headers": [pair for pair in asked.request.headers if pair[0] != _NAME]}
    if peer is not None:
        scope["client"] = (peer, 0)
    headers = {name: value for name, value in asked.headers.items() if name != _KEY}
    return replace(asked, request=Request(scope, asked.request.receive), headers=headers), peer is not None


def sealed(asked: ApiRequest, proofs: PeerProofs | None, clock: Clock) -> ApiRequest:
    """Give the request with its peer told, to be passed on to another process."""
    if proofs is None:
        return asked
    scope = asked.request.scope
    text = proofs.make(peer_of(scope), asked.method, _url(scope), clock.wall_ms() // 1000)
    headers = [*(pair for pair in asked.request.headers if pair[0] != _NAME), (_NAME, text.encode("latin-1"))]
    return replace(asked, request=Request({**scope, "headers": headers}, asked.request.receive))


def _url(scope: Scope) -> str:
    raw: bytes = scope["raw_path"] or scope["path"].encode()
    query: bytes = scope["query_string"]
    return (raw + b"?" + query if query else raw).decode("latin-1")
