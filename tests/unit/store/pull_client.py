"""The other side of `/pull-updates`, from the description of the protocol alone."""

import struct
from dataclasses import dataclass


def varint(value):
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def encode_request(*, server_revision="", client_revision="", long_poll_ms=0, selector=b"", more=b""):
    body = b""
    for field, value in ((2, server_revision.encode()), (3, client_revision.encode()), (5, selector)):
        if value:
            body += varint(field << 3 | 2) + varint(len(value)) + value
    return body + (varint(4 << 3) + varint(long_poll_ms) if long_poll_ms else b"") + more


def run_bitmap(start, end):
    """A Roaring bitmap of a range below 65,536, as one run."""
    return struct.pack("<HHBHHHHH", 12347, 0, 1, 0, end - start - 1, 1, start, end - start - 1)


@dataclass
class Found:
    revision: str
    db_pages: int
    protocol: int
    pages: dict

    def as_list(self):
        assert sorted(self.pages) == list(range(self.db_pages)), "there is no hole"
        return [self.pages[number] for number in range(self.db_pages)]


def take_varint(data, at):
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if data[at - 1] < 128:
            return value, at


def fields(message):
    at = 0
    while at < len(message):
        key, at = take_varint(message, at)
        value, at = take_varint(message, at)
        if key & 7 == 2:
            value, at = message[at : at + value], at + value
        yield key >> 3, value


def messages(body):
    at = 0
    while at < len(body):
        size, at = take_varint(body, at)
        yield body[at : at + size]
        assert at + size <= len(body)
        at += size


def decode_answer(body):
    head, *rest = messages(body)
    header = dict(fields(head))
    assert header[3] == b"" and 4 not in header, "raw, and nothing else"
    assert header.get(5, 0) == header.get(6, 0) == 0, "pages, to be put over what the client has"
    pages = {}
    for message in rest:
        page = dict(fields(message))
        assert page.get(1, 0) not in pages and len(page[2]) == 4096
        pages[page.get(1, 0)] = page[2]
    return Found(header[1].decode(), header.get(2, 0), header[8], pages)
