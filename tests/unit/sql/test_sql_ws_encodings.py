from __future__ import annotations

import pytest

from pando.sql.ws_encodings import WS_JSON, WS_PROTOBUF, NoCommonProtocol, Subprotocol, WsEncoding, choose_protocol


@pytest.mark.parametrize(
    ("offered", "name", "version", "encoding"),
    [
        ([], None, 1, WS_JSON),
        (["hrana1"], "hrana1", 1, WS_JSON),
        (["hrana2", "hrana1"], "hrana2", 2, WS_JSON),
        (["hrana1", "hrana2", "hrana3"], "hrana3", 3, WS_JSON),
        (["hrana1", "hrana2", "hrana3", "hrana3-protobuf"], "hrana3-protobuf", 3, WS_PROTOBUF),
        (["other", "HRANA2"], "HRANA2", 2, WS_JSON),
        (["Hrana3-Protobuf", "hrana3"], "Hrana3-Protobuf", 3, WS_PROTOBUF),
        (["Hrana2", "hrana2"], "Hrana2", 2, WS_JSON),
    ],
)
def test_what_we_like_best_is_chosen_in_the_clients_spelling(
    offered: list[str], name: str | None, version: int, encoding: WsEncoding
) -> None:
    assert choose_protocol(offered) == Subprotocol(name, version, encoding)


def test_nothing_in_common_says_what_is_spoken() -> None:
    with pytest.raises(NoCommonProtocol, match="hrana3-protobuf, hrana3, hrana2, hrana1"):
        choose_protocol(["hrana9"])
