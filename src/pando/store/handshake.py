"""How both ends of a link prove that they know the cluster secret. Pure: messages in, messages out, no sockets.

    dialer                                  acceptor
      Hello(kind, node, url, nonce)     ->
                                        <-  Challenge(node, nonce)
      Proof(hmac)                       ->
                                        <-  Welcome(node, hmac)      or Rejected

The dialer proves first, so that a stranger who reaches the port gets nothing to guess the secret from. Each proof is
HMAC-SHA256 under the link key over direction, kind, both names, the dialer's address and both nonces; hence a proof
cannot be reflected, replayed, or used for another kind of link. Over the unix socket (the directory's mode is the
proof) there is no key, and Welcome follows Hello at once. Not here: the time limit (`pando.store.link_open`), keys
(`pando.node.secret`).
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import msgspec

from pando.errors import InvalidRequest, NotReady, PandoError, Unauthorized
from pando.store.link import make_decoder
from pando.store.protocol import PROTOCOL_VERSION

NONCE_BYTES: Final = 32
NAME_SIZE_MAX: Final = 256
"""Longest node name or address in a Hello."""
HANDSHAKE_FRAME_BYTES_MAX: Final = 4096
"""Frames before the proof are small: nobody unknown makes us hold more."""


class LinkKind(StrEnum):
    """Who dials."""

    WEB = "web"
    APPLIER = "applier"
    PEER = "peer"
    REPLICA = "replica"
    CLI = "cli"


NODE_KINDS: Final = frozenset({LinkKind.PEER, LinkKind.REPLICA, LinkKind.CLI})
"""Kinds that may come over TCP; the others are processes of the same node."""


class Hello(msgspec.Struct, frozen=True, array_like=True, tag=201):
    """First message of the dialer. `url` is where the dialer's node can be reached, or empty."""

    version: int
    kind: str
    node: str
    nonce: bytes
    url: str = ""
    index: int = 0


class Challenge(msgspec.Struct, frozen=True, array_like=True, tag=202):
    """Asks the dialer for its proof."""

    node: str
    nonce: bytes


class Proof(msgspec.Struct, frozen=True, array_like=True, tag=203):
    """The dialer's proof."""

    digest: bytes


class Welcome(msgspec.Struct, frozen=True, array_like=True, tag=204):
    """The dialer is accepted; the digest is the acceptor's proof (empty over the unix socket)."""

    node: str
    digest: bytes = b""


class Rejected(msgspec.Struct, frozen=True, array_like=True, tag=205):
    """The dialer is not accepted. Fields as in `pando.errors`."""

    code: str
    message: str
    retryable: bool = False


HandshakeMessage = Hello | Challenge | Proof | Welcome | Rejected
HANDSHAKE_DECODER: Final = make_decoder(HandshakeMessage)


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Who is at the other end, as far as proved. `index` tells web processes of a node apart."""

    kind: LinkKind
    node: str
    url: str = ""
    index: int = 0
    is_local: bool = False


def _digest(key: bytes, direction: bytes, hello: Hello, acceptor_node: str, acceptor_nonce: bytes) -> bytes:
    parts = (
        direction,
        hello.version.to_bytes(4, "big"),
        hello.kind.encode(),
        hello.node.encode(),
        hello.url.encode(),
        hello.index.to_bytes(4, "big"),
        acceptor_node.encode(),
        hello.nonce,
        acceptor_nonce,
    )
    framed = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return hmac.digest(key, b"pando link 1" + framed, hashlib.sha256)


class Dialer:
    """The side that opens the connection. `key` None: over the unix socket, where no proof is asked for."""

    def __init__(
        self, *, kind: LinkKind, node: str, nonce: bytes, key: bytes | None = None, url: str = "", index: int = 0
    ) -> None:
        """`nonce`: NONCE_BYTES fresh random bytes."""
        self.hello = Hello(version=PROTOCOL_VERSION, kind=kind.value, node=node, nonce=nonce, url=url, index=index)
        self._key = key
        self._challenge: Challenge | None = None
        self.peer: Peer | None = None
        """The acceptor, once proved."""

    def receive(self, message: HandshakeMessage) -> Proof | None:
        """Take a message; gives the answer to send, if any. Raises Unauthorized, NotReady or InvalidRequest."""
        if isinstance(message, Rejected):
            raise _error_of(message)
        if isinstance(message, Challenge) and self._key is not None and self._challenge is None:
            _check_nonce(message.nonce)
            self._challenge = message
            return Proof(_digest(self._key, b"dialer", self.hello, message.node, message.nonce))
        if isinstance(message, Welcome) and self.peer is None:
            self._check(message)
            self.peer = Peer(kind=LinkKind(self.hello.kind), node=message.node, is_local=self._key is None)
            return None
        raise InvalidRequest(f"a handshake does not go on with {type(message).__name__}")

    def _check(self, welcome: Welcome) -> None:
        if self._key is None:
            return
        if self._challenge is None:
            raise Unauthorized("the other node accepted the link without asking for a proof")
        challenge = self._challenge
        expected = _digest(self._key, b"acceptor", self.hello, challenge.node, challenge.nonce)
        if welcome.node != challenge.node or not hmac.compare_digest(expected, welcome.digest):
            raise Unauthorized("the other node does not know this cluster's secret; set the same PANDO_SECRET on both")


class Acceptor:
    """The side that was connected to. `key` None: over the unix socket, where no proof is asked for."""

    def __init__(self, *, node: str, nonce: bytes, key: bytes | None = None) -> None:
        """`nonce`: NONCE_BYTES fresh random bytes."""
        self._node = node
        self._nonce = nonce
        self._key = key
        self._hello: Hello | None = None
        self.peer: Peer | None = None
        """The dialer, once proved."""

    def receive(self, message: HandshakeMessage) -> Challenge | Welcome:
        """Take a message; gives the answer to send.

        Raises Unauthorized or InvalidRequest: send `rejection` and close.
        """
        if isinstance(message, Hello) and self._hello is None:
            return self._greet(message)
        if isinstance(message, Proof) and self._hello is not None and self.peer is None:
            return self._verify(self._hello, message)
        raise InvalidRequest(f"a handshake does not go on with {type(message).__name__}")

    def _greet(self, hello: Hello) -> Challenge | Welcome:
        kind = _check_hello(hello)
        if self._key is None:
            self._hello = hello
            self.peer = Peer(kind=kind, node=hello.node, url=hello.url, index=hello.index, is_local=True)
            return Welcome(node=self._node)
        if kind not in NODE_KINDS:
            raise Unauthorized(f"links of kind {kind.value!r} come over the unix socket of the node only")
        self._hello = hello
        return Challenge(node=self._node, nonce=self._nonce)

    def _verify(self, hello: Hello, proof: Proof) -> Welcome:
        if self._key is None:
            raise InvalidRequest("no proof was asked for")
        if not hmac.compare_digest(_digest(self._key, b"dialer", hello, self._node, self._nonce), proof.digest):
            raise Unauthorized("this link does not know the cluster's secret; set the same PANDO_SECRET on both nodes")
        self.peer = Peer(kind=LinkKind(hello.kind), node=hello.node, url=hello.url, index=hello.index)
        return Welcome(node=self._node, digest=_digest(self._key, b"acceptor", hello, self._node, self._nonce))


def rejection(error: PandoError) -> Rejected:
    """Say an error to the other side."""
    return Rejected(code=error.code, message=error.message, retryable=error.retryable)


def _error_of(message: Rejected) -> PandoError:
    if message.retryable:
        return NotReady(message.message, code=message.code)
    return Unauthorized(message.message, code=message.code)


def _check_nonce(nonce: bytes) -> None:
    if len(nonce) != NONCE_BYTES:
        raise InvalidRequest(f"a nonce has {NONCE_BYTES} bytes, not {len(nonce)}")


def _check_hello(hello: Hello) -> LinkKind:
    _check_nonce(hello.nonce)
    if hello.version != PROTOCOL_VERSION:
        raise InvalidRequest(
            f"this node speaks link protocol {PROTOCOL_VERSION}, the other {hello.version}: upgrade one"
        )
    if len(hello.node) > NAME_SIZE_MAX or len(hello.url) > NAME_SIZE_MAX or not 0 <= hello.index < 2**16:
        raise InvalidRequest(f"a node's name and address have at most {NAME_SIZE_MAX} characters, its index 16 bits")
    try:
        return LinkKind(hello.kind)
    except ValueError:
        raise InvalidRequest(f"there is no link kind {hello.kind[:40]!r}") from None
