import pytest
from hypothesis import given
from hypothesis import strategies as st

from pando.errors import InvalidRequest, NotReady, PandoError, Unauthorized
from pando.store.handshake import (
    NONCE_BYTES,
    Acceptor,
    Challenge,
    Dialer,
    Hello,
    LinkKind,
    Proof,
    Rejected,
    Welcome,
    rejection,
)

KEY = b"k" * 32


def dialer(key=KEY, kind=LinkKind.REPLICA, node="n2", nonce=b"d" * NONCE_BYTES):
    return Dialer(kind=kind, node=node, nonce=nonce, key=key, url="http://127.0.0.1:8092", index=1)


def acceptor(key=KEY, nonce=b"a" * NONCE_BYTES):
    return Acceptor(node="n1", nonce=nonce, key=key)


def shake(left: Dialer, right: Acceptor) -> None:
    message = left.hello
    while left.peer is None:
        answer = right.receive(message)
        message = left.receive(answer)


def test_both_know_each_other_after_the_handshake():
    left, right = dialer(), acceptor()
    shake(left, right)
    assert left.peer.node == "n1"
    assert (right.peer.node, right.peer.kind, right.peer.url, right.peer.index) == (
        "n2",
        LinkKind.REPLICA,
        "http://127.0.0.1:8092",
        1,
    )
    assert not right.peer.is_local


def test_over_the_unix_socket_no_proof_is_needed():
    left, right = dialer(key=None, kind=LinkKind.WEB), acceptor(key=None)
    shake(left, right)
    assert right.peer.is_local
    assert left.peer.node == "n1"


def test_a_dialer_with_another_secret_is_refused_and_gets_no_proof():
    left, right = dialer(key=b"x" * 32), acceptor()
    proof = left.receive(right.receive(left.hello))
    with pytest.raises(Unauthorized):
        right.receive(proof)
    assert right.peer is None


def test_an_acceptor_with_another_secret_is_refused():
    left = dialer()
    impostor = acceptor(key=b"x" * 32)
    left.receive(impostor.receive(left.hello))
    with pytest.raises(Unauthorized):
        left.receive(Welcome(node="n1", digest=b"\0" * 32))
    assert left.peer is None


def test_a_dialer_with_a_key_wants_a_proof():
    with pytest.raises(Unauthorized):
        dialer().receive(Welcome(node="n1"))


def test_a_reflected_proof_does_not_pass_as_the_acceptors():
    left = dialer()
    proof = left.receive(Challenge(node="n1", nonce=b"a" * NONCE_BYTES))
    with pytest.raises(Unauthorized):
        left.receive(Welcome(node="n1", digest=proof.digest))


def test_a_replayed_proof_does_not_pass_under_a_new_nonce():
    left, right = dialer(), acceptor()
    proof = left.receive(right.receive(left.hello))
    later = acceptor(nonce=b"b" * NONCE_BYTES)
    later.receive(left.hello)
    with pytest.raises(Unauthorized):
        later.receive(proof)


@pytest.mark.parametrize(
    "changed", [{"kind": "peer"}, {"node": "n3"}, {"url": "http://evil"}, {"index": 2}, {"nonce": b"e" * NONCE_BYTES}]
)
def test_a_proof_binds_every_field_of_the_hello(changed):
    left, right = dialer(), acceptor()
    hello = left.hello
    fields = {name: getattr(hello, name) for name in Hello.__struct_fields__} | changed
    challenge = right.receive(Hello(**fields))
    with pytest.raises(Unauthorized):
        right.receive(left.receive(challenge))


@pytest.mark.parametrize("kind", [LinkKind.WEB, LinkKind.APPLIER])
def test_processes_of_the_node_do_not_come_over_tcp(kind):
    with pytest.raises(Unauthorized):
        acceptor().receive(dialer(kind=kind).hello)


@pytest.mark.parametrize(
    "hello",
    [
        Hello(version=999, kind="peer", node="n", nonce=b"d" * NONCE_BYTES),
        Hello(version=1, kind="guest", node="n", nonce=b"d" * NONCE_BYTES),
        Hello(version=1, kind="peer", node="n", nonce=b"short"),
        Hello(version=1, kind="peer", node="n" * 300, nonce=b"d" * NONCE_BYTES),
        Hello(version=1, kind="peer", node="n", nonce=b"d" * NONCE_BYTES, index=-1),
    ],
)
def test_a_bad_hello_is_refused(hello):
    with pytest.raises(InvalidRequest):
        acceptor().receive(hello)


def test_rejections_become_errors_that_say_whether_to_try_again():
    with pytest.raises(Unauthorized, match="no entry"):
        dialer().receive(rejection(Unauthorized("no entry")))
    with pytest.raises(NotReady):
        dialer().receive(rejection(NotReady("starting")))


_messages = st.one_of(
    st.builds(Challenge, node=st.text(max_size=5), nonce=st.sampled_from([b"a" * NONCE_BYTES, b""])),
    st.builds(Proof, digest=st.binary(max_size=40)),
    st.builds(Welcome, node=st.just("n1"), digest=st.binary(max_size=40)),
    st.builds(Rejected, code=st.just("X"), message=st.just("m")),
    st.builds(
        Hello,
        version=st.just(1),
        kind=st.sampled_from(["peer", "web"]),
        node=st.just("n"),
        nonce=st.just(b"d" * NONCE_BYTES),
    ),
)


@given(st.lists(_messages, max_size=6))
def test_no_sequence_of_messages_without_the_key_gets_in(messages):
    left, right = dialer(), acceptor()
    for message in messages:
        for side in (left, right):
            try:
                side.receive(message)
            except PandoError:
                continue
    assert left.peer is None
    assert right.peer is None
