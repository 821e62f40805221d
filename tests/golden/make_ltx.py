"""Makes the golden LTX files: `python tests/golden/make_ltx.py` writes `tests/golden/ltx`.

`ok/` holds sound files and `expected.json` what they must decode to; every other folder holds files with one defect
each, and `defects.json` the error code and the word that the message must contain. Files are put together here by hand
(`raw_file`), not by the encoder under test. With `--reference LTX LITESTREAM` (paths of the two programs) the files
named `reference-*` are made anew as well; without, those that are there stay.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sqlite3
import struct
import subprocess
import tempfile
import time
from pathlib import Path

import lz4.block
import lz4.frame

HERE = Path(__file__).parent / "ltx"
OK = HERE / "ok"
TIME_MS = 1_700_000_000_000
FLAG = 1 << 63
EMPTY = FLAG


def crc64(data: bytes, crc: int = 0) -> int:
    """Bit by bit, from the definition: nothing of it is shared with the code under test."""
    crc ^= 0xFFFF_FFFF_FFFF_FFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xD800_0000_0000_0000 if crc & 1 else 0)
    return crc ^ 0xFFFF_FFFF_FFFF_FFFF


def page_checksum(pgno: int, page: bytes) -> int:
    return crc64(struct.pack(">I", pgno) + page) | FLAG


def rolling(pages: list[tuple[int, bytes]]) -> int:
    value = EMPTY
    for pgno, page in pages:
        value ^= page_checksum(pgno, page)
    return value | FLAG


def page(size: int, seed: int) -> bytes:
    """Half pattern, half zero: compressible, and different for each seed."""
    half = bytes((seed * 37 + i * i) % 251 for i in range(size // 2))
    return half + bytes(size - len(half))


def header(**fields: int | bytes) -> bytes:
    values: dict[str, int | bytes] = {
        "magic": b"LTX1",
        "flags": 0,
        "page_size": 512,
        "commit": 3,
        "min_txid": 1,
        "max_txid": 1,
        "timestamp": TIME_MS,
        "pre": 0,
        "wal_offset": 0,
        "wal_size": 0,
        "salt1": 0,
        "salt2": 0,
        "node": 0,
        "reserved": bytes(20),
    }
    assert not fields.keys() - values.keys(), fields
    return struct.pack(">4sIIIQQqQqqIIQ20s", *(values | fields).values())


def block(data: bytes) -> bytes:
    return lz4.block.compress(data, store_size=False)


def frame(data: bytes, **options: object) -> bytes:
    settings = {"block_size": lz4.frame.BLOCKSIZE_MAX64KB, "block_linked": False, "content_checksum": True}
    return lz4.frame.compress(data, **(settings | {"store_size": False} | options))


def block_page(pgno: int, data: bytes, packed: bytes | None = None, flags: int = 1, size: int | None = None):
    packed = block(data) if packed is None else packed
    head = struct.pack(">IHI", pgno, flags, len(packed) if size is None else size)
    return pgno, head, packed, data


def frame_page(pgno: int, data: bytes, packed: bytes | None = None, flags: int = 0):
    return pgno, struct.pack(">IH", pgno, flags), frame(data) if packed is None else packed, data


def uvarint(value: int) -> bytes:
    out = b""
    while value >= 128:
        out += bytes((value & 127 | 128,))
        value >>= 7
    return out + bytes((value,))


def raw_file(
    head: bytes, pages=(), post: int = 0, *, index: bytes | None = None, end: bytes = bytes(6), crc: int | None = None
) -> bytes:
    """Put a file together from whatever it is given; only checksums and index are computed unless given too."""
    body, hashed, entries = head, head, b""
    for pgno, page_head, packed, data in pages:
        entries += uvarint(pgno) + uvarint(len(body)) + uvarint(len(page_head) + len(packed))
        body += page_head + packed
        hashed += page_head + data
    entries += b"\0"
    index = entries + struct.pack(">Q", len(entries)) if index is None else index
    tail = end + index + struct.pack(">Q", post)
    crc = crc64(hashed + tail) | FLAG if crc is None else crc
    return body + tail + struct.pack(">Q", crc)


# -- sound files -----------------------------------------------------------------------------------------------------


def history(page_size: int) -> list[tuple[dict[str, int], list[tuple[int, bytes]], int]]:
    """A snapshot, a delta, growth, shrinking and a deletion: header fields, pages, post-apply checksum of each."""
    database: dict[int, bytes] = {}
    steps = [
        ({1: 1, 2: 2, 3: 3}, 3),
        ({1: 4, 3: 5}, 3),
        ({1: 6, 4: 7, 5: 8}, 5),
        ({1: 9}, 2),
        ({}, 0),
    ]
    made = []
    before = 0
    for number, (changes, commit) in enumerate(steps, 1):
        changed = {pgno: page(page_size, seed) for pgno, seed in changes.items()}
        database = {pgno: data for pgno, data in (database | changed).items() if pgno <= commit}
        after = rolling(list(database.items()))
        fields = {"page_size": page_size, "commit": commit, "min_txid": number, "max_txid": number, "pre": before}
        made.append((fields, list(changed.items()), after))
        before = after
    return made


NAMES = ("1-snapshot", "2-delta", "3-grow", "4-shrink", "5-deletion")


def sound_files() -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for name, (fields, pages, post) in zip(NAMES, history(512), strict=True):
        files[f"stream-512-{name}"] = raw_file(header(**fields), [block_page(*p) for p in pages], post)
        if fields["commit"]:
            backup = header(**(fields | {"flags": 2, "pre": 0}))
            files[f"backup-512-{name}"] = raw_file(backup, [frame_page(*p) for p in pages])
    for name, (fields, pages, post) in list(zip(NAMES, history(65536), strict=True))[:1]:
        files[f"stream-65536-{name}"] = raw_file(header(**fields), [block_page(*p) for p in pages], post)
        backup = header(**(fields | {"flags": 2}))
        files[f"backup-65536-{name}"] = raw_file(backup, [frame_page(*p) for p in pages])
    files |= unusual_files()
    return files


def unusual_files() -> dict[str, bytes]:
    """Sound, but not as we write them."""
    three = [(n, page(512, n)) for n in (1, 2, 3)]
    post = rolling(three)
    literal = [block_page(n, d, b"\xf0\xff\xf2" + d) for n, d in three]
    linked = [frame_page(n, d, frame(d, block_linked=True, block_checksum=True)) for n, d in three]
    bare = [frame_page(n, d, frame(d, content_checksum=False)) for n, d in three]
    sized = [frame_page(n, d, frame(d, store_size=True, block_size=lz4.frame.BLOCKSIZE_MAX4MB)) for n, d in three]
    wal = {"min_txid": 7, "max_txid": 9, "pre": FLAG | 5, "wal_offset": 32, "wal_size": 4152, "salt1": 1, "salt2": 2}
    return {
        "stream-literal-blocks": raw_file(header(), literal, post),
        "stream-frames": raw_file(header(), [frame_page(*p) for p in three], post),
        "stream-mixed": raw_file(header(), [block_page(*three[0]), frame_page(*three[1]), block_page(*three[2])], post),
        "backup-blocks": raw_file(header(flags=2), [block_page(*p) for p in three]),
        "backup-linked-frames": raw_file(header(flags=2), linked),
        "backup-frames-without-checksum": raw_file(header(flags=2), bare),
        "backup-frames-with-size": raw_file(header(flags=2), sized),
        "backup-vector": vector(),
        "stream-wal-fields": raw_file(header(**wal, node=77), [block_page(2, page(512, 2))], FLAG | 6),
        "stream-empty-database": raw_file(header(commit=0), [], EMPTY),
        "stream-no-pages": raw_file(header(min_txid=2, max_txid=2, pre=FLAG | 5), [], FLAG | 5),
    }


def vector() -> bytes:
    """The file of 204 bytes that `ltx` v0.5.1 was seen to write for one page of bytes i % 7: its checksum is known.

    The file checksum covers all but compressed bytes, so any LZ4 block of the same length, 45 bytes, will do.
    """
    data = bytes(i % 7 for i in range(4096))
    literals, last = 19, 5
    more = 4096 - literals - last - 4 - 15
    packed = (
        b"\xff" + bytes((literals - 15,)) + data[:literals] + b"\7\0" + b"\xff" * (more // 255) + bytes((more % 255,))
    )
    packed += bytes((last << 4,)) + data[-last:]
    assert lz4.block.decompress(packed, 4096) == data
    assert len(packed) == 45, len(packed)
    whole = frame(data)
    packed = whole[:7] + struct.pack("<I", len(packed)) + packed + whole[-8:]
    made = raw_file(header(page_size=4096, commit=1, flags=2, timestamp=1000), [frame_page(1, data, packed)])
    assert len(made) == 204
    assert made[-28:-16].hex() == "01644600" + "0000000000000004"
    assert made[-8:].hex() == "ff619ae4e641e982"
    return made


# -- broken files ----------------------------------------------------------------------------------------------------


def broken_files() -> dict[str, tuple[str, str, dict[str, bytes]]]:
    """Per folder: error code, a word of the message, files."""
    return header_defects() | page_defects() | frame_defects() | order_defects() | end_defects()


def header_defects() -> dict[str, tuple[str, str, dict[str, bytes]]]:
    one = [(1, page(512, 1))]
    post = rolling(one)

    def with_header(**fields: int | bytes) -> bytes:
        return raw_file(header(**({"commit": 1} | fields)), [block_page(*one[0])], post)

    later = {"min_txid": 5, "max_txid": 5}
    return {
        "magic": ("LTX_INVALID", "magic", {"ltx2": with_header(magic=b"LTX2"), "text": with_header(magic=b"SQLi")}),
        "reserved": ("LTX_INVALID", "reserved", {"set": with_header(reserved=bytes(19) + b"\1")}),
        "header-flags": ("LTX_INVALID", "flags", {f"{n}": with_header(flags=n) for n in (1, 3, 4, 0x8000_0000)}),
        "page-size": ("LTX_INVALID", "page_size", {f"{n}": with_header(page_size=n) for n in (0, 256, 1000, 131072)}),
        "min-txid": ("LTX_INVALID", "min_txid", {"zero": with_header(min_txid=0)}),
        "max-txid": ("LTX_INVALID", "max_txid", {"below-min": with_header(min_txid=5, max_txid=4, pre=FLAG)}),
        "pre-apply": (
            "LTX_INVALID",
            "pre_apply_checksum",
            {
                "in-snapshot": with_header(pre=FLAG | 1),
                "missing": with_header(**later),
                "bit-63-clear": with_header(**later, pre=1),
                "without-checksums": with_header(**later, flags=2, pre=FLAG | 1),
            },
        ),
        "wal-offset": (
            "LTX_INVALID",
            "wal_offset",
            {
                "negative": with_header(wal_offset=-1),
                "missing-with-salt": with_header(salt1=1),
                "missing-with-size": with_header(wal_size=1),
            },
        ),
        "wal-size": ("LTX_INVALID", "wal_size", {"negative": with_header(wal_offset=32, wal_size=-1)}),
        "deletion-without-checksums": ("LTX_INVALID", "commit", {"empty": raw_file(header(commit=0, flags=2))}),
    }


def page_defects() -> dict[str, tuple[str, str, dict[str, bytes]]]:
    data = page(512, 1)
    post = rolling([(1, data)])
    good = frame(data)

    def blocks(packed: bytes, **fields: int) -> bytes:
        return raw_file(header(commit=1), [block_page(1, data, packed, **fields)], post)

    return {
        "page-flags": ("LTX_INVALID", "page flags", {f"{n}": blocks(block(data), flags=n) for n in (2, 3, 0x8000)}),
        # Before version 3 a page header had no flags: what stands in their place is the payload's start.
        "old-format": (
            "LTX_INVALID",
            "page flags",
            {
                "2": raw_file(header(commit=1), [(1, struct.pack(">I", 1), good, data)], post),
                "1": raw_file(
                    header(commit=1), [(1, struct.pack(">I", 1), b"SQLite format 3\0" + data[16:], data)], post
                ),
            },
        ),
        "page-flags-at-end": (
            "LTX_INVALID",
            "page flags",
            {"1": raw_file(header(commit=0), [], EMPTY, end=b"\0" * 5 + b"\1")},
        ),
        "block-size": ("LTX_INVALID", "page data size", {f"{n}": blocks(b"", size=n) for n in (0, 531, 0xFFFF_FFFF)}),
        "block": (
            "LTX_INVALID",
            "page data",
            {
                "short": blocks(block(data[:511])),
                "long": blocks(block(data + b"x")),
                "offset-zero": blocks(b"\x1fA\0\0\xff\xee\x50AAAAA"),
                "offset-before-start": blocks(b"\x1fA\x02\0\xff\xee\x50AAAAA"),
                "only-a-length": blocks(b"\xf0\xff\xff"),
                "bomb": blocks(b"\x1fA\1\0" + b"\xff" * 200 + b"\0\x50AAAAA"),
            },
        ),
    }


def frame_defects() -> dict[str, tuple[str, str, dict[str, bytes]]]:
    data = page(512, 1)
    post = rolling([(1, data)])
    good = frame(data)

    def frames(packed: bytes) -> bytes:
        return raw_file(header(commit=1), [frame_page(1, data, packed)], post)

    return {
        "frame-magic": ("LTX_INVALID", "LZ4 frame magic", {"skippable": frames(b"\x50\x2a\x4d\x18\4\0\0\0abcd")}),
        "frame-flags": (
            "LTX_INVALID",
            "LZ4 frame flags",
            {"version-2": frames(good[:4] + b"\xa4" + good[5:]), "dictionary": frames(good[:4] + b"\x65" + good[5:])},
        ),
        "frame-block-descriptor": ("LTX_INVALID", "block descriptor", {"3": frames(good[:5] + b"\x30" + good[6:])}),
        "frame-content-size": (
            "LTX_INVALID",
            "content size",
            {"huge": frames(b"\x04\x22\x4d\x18\x6c\x40" + b"\xff" * 8 + b"\0" + good[7:])},
        ),
        "frame-block-size": (
            "LTX_INVALID",
            "block size",
            {
                "huge": frames(good[:7] + b"\xff\xff\xff\x7f" + good[11:]),
                "stored-0": frames(good[:7] + b"\0\0\0\x80" + good[11:]),
            },
        ),
        "frame-size": (
            "LTX_INVALID",
            "LZ4 frame size",
            {"many-blocks": frames(good[:7] + b"\1\0\0\0\0" * 300 + bytes(4) + good[-4:])},
        ),
        "frame-checksum": (
            "LTX_INVALID",
            "LZ4 frame",
            {
                "descriptor": frames(good[:6] + bytes((good[6] ^ 1,)) + good[7:]),
                "content": frames(good[:-1] + bytes((good[-1] ^ 1,))),
            },
        ),
        "frame": ("LTX_INVALID", "page data", {"short": frames(frame(data[:511])), "long": frames(frame(data + b"x"))}),
    }


def order_defects() -> dict[str, tuple[str, str, dict[str, bytes]]]:
    pages = {n: page(512, n) for n in range(1, 5)}
    later = {"min_txid": 5, "max_txid": 6, "pre": FLAG | 1}

    def delta(*numbers: int, **fields: int) -> bytes:
        chosen = [block_page(n, pages.get(n, pages[1])) for n in numbers]
        return raw_file(header(**(later | fields)), chosen, FLAG | 2)

    def snapshot(*numbers: int, commit: int) -> bytes:
        chosen = [(n, pages[n]) for n in numbers]
        return raw_file(header(commit=commit), [block_page(*p) for p in chosen], rolling(chosen))

    lock = 0x4000_0000 // 65536 + 1
    big = [block_page(lock, page(65536, 1))]
    return {
        "page-order": ("LTX_INVALID", "page number", {"descending": delta(2, 1), "twice": delta(2, 2)}),
        "page-beyond-commit": ("LTX_INVALID", "commit", {"by-one": delta(4), "deletion": delta(1, commit=0)}),
        "lock-page": (
            "LTX_INVALID",
            "lock page",
            {"65536": raw_file(header(**later, page_size=65536, commit=20000), big, FLAG | 2)},
        ),
        "snapshot-gap": (
            "LTX_INVALID",
            "snapshot",
            {"page-2": snapshot(1, 3, commit=3), "page-1": snapshot(2, 3, commit=3)},
        ),
        "snapshot-short": (
            "LTX_INVALID",
            "snapshot",
            {"by-one": snapshot(1, 2, commit=3), "no-page": snapshot(commit=1)},
        ),
    }


def end_defects() -> dict[str, tuple[str, str, dict[str, bytes]]]:
    data = page(512, 1)
    pages = [block_page(1, data)]
    post = rolling([(1, data)])
    head = header(commit=1)
    good = raw_file(head, pages, post)
    size = len(pages[0][1]) + len(pages[0][2])
    entry = b"\1\x64" + uvarint(size) + b"\0"
    backup = header(commit=1, flags=2)

    def with_index(index: bytes, length: int | None = None) -> bytes:
        return raw_file(head, pages, post, index=index + struct.pack(">Q", len(index) if length is None else length))

    return {
        "page-index": (
            "LTX_INVALID",
            "page index",
            {
                "page": with_index(b"\2" + entry[1:]),
                "offset": with_index(b"\1\x65" + entry[2:]),
                "size": with_index(b"\1\x64" + uvarint(size + 1) + b"\0"),
                "empty": with_index(b"\0"),
                "one-more": with_index(entry[:-1] + b"\2\x64\x32\0"),
                "long-length": with_index(entry, 1 << 63),
                "wide-varint": with_index(b"\x81\0" + entry[1:]),
            },
        ),
        "file-checksum": (
            "LTX_INVALID",
            "file_checksum",
            {"wrong": raw_file(head, pages, post, crc=FLAG | 1), "zero": raw_file(head, pages, post, crc=0)},
        ),
        "post-apply": (
            "LTX_INVALID",
            "post_apply_checksum",
            {
                "missing": raw_file(head, pages, 0),
                "not-the-pages": raw_file(head, pages, FLAG | 1),
                "without-checksums": raw_file(backup, [frame_page(1, data)], post),
                "deletion": raw_file(header(commit=0, min_txid=2, max_txid=2, pre=FLAG | 1), [], FLAG | 1),
            },
        ),
        "trailing-bytes": ("LTX_INVALID", "file size", {"one": good + b"\0", "a-second-file": good + good}),
        "truncated": (
            "LTX_TRUNCATED",
            "ends inside",
            {
                "header": good[:50],
                "before-pages": good[:100],
                "page-header": good[:103],
                "page": good[:150],
                "end-of-pages": good[:-31],
                "index": good[:-22],
                "trailer": good[:-1],
            },
        ),
        "empty": ("LTX_EMPTY", "empty", {"empty": b""}),
    }


# -- what must come out ----------------------------------------------------------------------------------------------


def expectation(data: bytes) -> dict[str, object]:
    """Describe a sound file by the code under test; look at the difference before it is committed."""
    from pando.ltx import decode_ltx

    file = decode_ltx(data)
    fields = {name: getattr(file.header, name) for name in file.header.__slots__}
    return {
        "header": {name: value for name, value in fields.items() if value},
        "pages": {str(pgno): f"{page_checksum(pgno, content):016x}" for pgno, content in file.pages},
        "post_apply_checksum": f"{file.trailer.post_apply_checksum:016x}",
        "file_checksum": f"{file.trailer.file_checksum:016x}",
    }


def reference_files(ltx: str, litestream: str) -> dict[str, bytes]:
    """Files that the reference programs wrote: a snapshot by `ltx encode-db`, what `litestream replicate` left."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        database = folder / "a.db"
        connection = sqlite3.connect(database)
        connection.executescript("PRAGMA page_size=512; CREATE TABLE t(a, b); INSERT INTO t VALUES(1, 'one')")
        connection.commit()
        subprocess.run([ltx, "encode-db", "-o", folder / "a.ltx", database], check=True)
        files = {"reference-ltx-encode-db": (folder / "a.ltx").read_bytes()}
        connection.execute("PRAGMA journal_mode=WAL")
        target = folder / "replica"
        process = subprocess.Popen([litestream, "replicate", database, f"file://{target}"])
        for number in range(3):
            wait_for_files(target / "ltx" / "0", number + 1)
            connection.execute("INSERT INTO t VALUES(?, hex(zeroblob(300)))", (number,))
            connection.commit()
        wait_for_files(target / "ltx" / "0", 4)
        process.terminate()
        process.wait()
        connection.close()
        for found in sorted((target / "ltx" / "0").glob("*.ltx"))[:3]:
            files[f"reference-litestream-{int(found.name[:16], 16)}"] = found.read_bytes()
    return files


def wait_for_files(folder: Path, count: int) -> None:
    deadline = time.monotonic() + 20
    while len(list(folder.glob("*.ltx"))) < count:
        assert time.monotonic() < deadline, f"litestream wrote no {count} files"
        time.sleep(0.05)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--reference", nargs=2, metavar=("LTX", "LITESTREAM"))
    arguments = parser.parse_args()
    kept = {path.stem: path.read_bytes() for path in OK.glob("reference-*.ltx")}
    reference = reference_files(*arguments.reference) if arguments.reference else kept
    sound, defects = sound_files() | reference, broken_files()
    shutil.rmtree(HERE, ignore_errors=True)
    write_folder("ok", sound)
    for folder, (_, _, files) in defects.items():
        write_folder(folder, files)
    expected = {path.stem: expectation(path.read_bytes()) for path in sorted(OK.glob("*.ltx"))}
    write_json(OK / "expected.json", expected)
    write_json(
        HERE / "defects.json", {name: {"code": code, "names": word} for name, (code, word, _) in defects.items()}
    )


def write_folder(name: str, files: dict[str, bytes]) -> None:
    folder = HERE / name
    folder.mkdir(parents=True)
    for file, data in files.items():
        (folder / f"{file}.ltx").write_bytes(data)


def write_json(path: Path, data: object) -> None:
    path.write_text(json.dumps(data, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
