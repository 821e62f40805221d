"""A stand-in for `pando serve`: answers /health, tells how it was started, ends with whoever started it."""

import http.server
import json
import os
import sys
import threading
from pathlib import Path

flags = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=True))
directory = Path(flags["--dir"])
if flags.get("--log-level") == "error":  # the test's word for "this node does not start"
    print("no such luck", file=sys.stderr)
    sys.exit(2)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        facts = {} if self.path == "/health" else {"flags": flags, "environment": dict(os.environ), "pid": os.getpid()}
        body = json.dumps(facts).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def end_with_parent():
    os.read(int(os.environ["PANDO_ALIVE_FD"]), 1)
    os._exit(0)


threading.Thread(target=end_with_parent, daemon=True).start()
(directory / ".pando").mkdir(parents=True, exist_ok=True)
(directory / ".pando" / "processes.json").write_text(json.dumps({"supervisor": os.getpid()}))
host, _, port = flags["--http"].rpartition(":")
http.server.ThreadingHTTPServer((host, int(port)), Handler).serve_forever()
