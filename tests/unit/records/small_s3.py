"""A small S3 on loopback, for tests: objects, parts, lists and bulk deletes in memory; it refuses unsigned requests."""

import hashlib
import re
import threading
import xml.etree.ElementTree as Xml
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

MOMENT = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


class SmallS3:
    """What the bucket holds, and what was asked."""

    def __init__(self):
        self.objects = {}
        self.uploads = {}
        self.aborted = []
        self.requests = []


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    s3: SmallS3

    def log_message(self, *_):
        pass

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(headers.pop("length", len(body))))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def prepare(self):
        parts = urlsplit(self.path)
        self.key = unquote(parts.path).removeprefix("/bucket").lstrip("/")
        self.query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        size = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(size)
        self.s3.requests.append((self.command, self.key, tuple(self.query)))
        if "Credential=someone/" not in self.headers.get("Authorization", ""):
            self.answer(403, b"<Error><Code>AccessDenied</Code></Error>")
            return False
        return True

    def do_PUT(self):
        if not self.prepare():
            return
        etag = f'"{hashlib.md5(self.body).hexdigest()}"'
        if "partNumber" in self.query:
            self.s3.uploads[self.query["uploadId"]]["parts"][int(self.query["partNumber"])] = self.body
        else:
            self.keep(self.key, self.body, etag, self.headers)
        self.answer(200, ETag=etag)

    def keep(self, key, body, etag, headers):
        kept = {
            name: value
            for name, value in headers.items()
            if name.lower() == "content-type" or name.lower().startswith("x-amz-meta-")
        }
        self.s3.objects[key] = (body, etag, kept)

    def do_POST(self):
        if not self.prepare():
            return
        if "uploads" in self.query:
            number = f"upload{len(self.s3.uploads)}"
            self.s3.uploads[number] = {"parts": {}, "headers": dict(self.headers.items())}
            self.answer(200, f"<R><UploadId>{number}</UploadId></R>".encode())
        elif "uploadId" in self.query:
            upload = self.s3.uploads.pop(self.query["uploadId"])
            body = b"".join(upload["parts"][number] for number in sorted(upload["parts"]))
            self.keep(self.key, body, '"many-1"', upload["headers"])
            self.answer(200, b'<R><ETag>"many-1"</ETag></R>')
        else:
            keys = [node.text for node in Xml.fromstring(self.body).iter() if node.tag.endswith("Key")]
            for key in keys:
                self.s3.objects.pop(key, None)
            deleted = "".join(f"<Deleted><Key>{escape(key)}</Key></Deleted>" for key in keys)
            self.answer(200, f"<DeleteResult>{deleted}</DeleteResult>".encode())

    def do_DELETE(self):
        if not self.prepare():
            return
        if "uploadId" in self.query:
            self.s3.aborted.append(self.s3.uploads.pop(self.query["uploadId"]))
        else:
            self.s3.objects.pop(self.key, None)
        self.answer(204)

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        if not self.prepare():
            return
        if "list-type" in self.query:
            self.answer(200, self.listing())
            return
        if self.key not in self.s3.objects:
            self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
            return
        body, etag, kept = self.s3.objects[self.key]
        headers = {"ETag": etag, "Last_Modified": format_datetime(MOMENT, usegmt=True), **kept}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked is None:
            self.answer(200, body, **headers)
            return
        start, last = int(asked[1]), int(asked[2] or len(body) - 1)
        if start >= len(body):
            self.answer(416, b"<Error><Code>InvalidRange</Code></Error>")
            return
        last = min(last, len(body) - 1)
        shown = f"bytes {start}-{last}/{len(body)}"
        self.answer(206, body[start : last + 1], Content_Range=shown, **headers)

    def listing(self):
        start = self.query.get("continuation-token", "")
        keys = sorted(key for key in self.s3.objects if key.startswith(self.query.get("prefix", "")) and key > start)
        page, more = keys[:100], len(keys) > 100
        found = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(self.s3.objects[key][0])}</Size>"
            f"<LastModified>{MOMENT:%Y-%m-%dT%H:%M:%S.000Z}</LastModified><ETag>&quot;x&quot;</ETag></Contents>"
            for key in page
        )
        token = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if more else ""
        return (
            f"<ListBucketResult><IsTruncated>{str(more).lower()}</IsTruncated>{token}{found}</ListBucketResult>"
        ).encode()


@contextmanager
def served():
    """Give a SmallS3 and its URL."""
    s3 = SmallS3()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"s3": s3}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield s3, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
