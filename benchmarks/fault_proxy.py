"""A proxy on loopback between the function and S3 that answers 503 to a share of the calls.

The function cannot know whether a call that failed took effect. Half of the failures are answered before the call is
passed on, half after S3 has done it. Each one is written down, with its time, for the audit.
Run as `python -m benchmarks.fault_proxy UPSTREAM_PORT SHARE SEED LOG`; prints its own port.
"""

from __future__ import annotations

import json
import random
import sys
import time
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HOST = "127.0.0.1"
BUSY = (
    b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>SlowDown</Code>'
    b"<Message>Please reduce your request rate.</Message></Error>"
)
OF_THE_CONNECTION = {"connection", "expect", "transfer-encoding"}
"""Headers that are not passed on."""


class Proxy(ThreadingHTTPServer):
    """Passes calls on to the port `upstream`; `share` of them fail, and are written to `log`."""

    def __init__(self, upstream: int, share: float, seed: int, log: Path) -> None:
        super().__init__((HOST, 0), Call)
        self.upstream, self.share, self.random, self.log = upstream, share, random.Random(seed), log
        log.touch()

    def fate(self) -> str | None:
        """When the next call fails: before or after it took effect, or never."""
        if self.random.random() >= self.share:
            return None
        return "before" if self.random.random() < 0.5 else "after"


class Call(BaseHTTPRequestHandler):
    protocol_version, disable_nagle_algorithm = "HTTP/1.1", True
    server: Proxy

    def pass_on(self) -> None:
        body, fate = self.rfile.read(int(self.headers.get("Content-Length", 0))), self.server.fate()
        status, headers, content = self.upstream(body) if fate != "before" else (503, {}, b"")
        if fate:
            moment = {"at": time.time(), "method": self.command, "effect": fate}
            with self.server.log.open("a") as log:
                log.write(json.dumps(moment) + "\n")
            status, headers, content = 503, {"Content-Type": "application/xml"}, BUSY
        has_content = self.command != "HEAD"
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in OF_THE_CONNECTION and not (has_content and name.lower() == "content-length"):
                self.send_header(name, value)
        if has_content:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content if has_content else b"")

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = pass_on

    def upstream(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """S3's status, headers and content."""
        connection = HTTPConnection(HOST, self.server.upstream)
        connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in OF_THE_CONNECTION:
                connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, dict(answer.getheaders()), content

    def log_message(self, *_: object) -> None:
        """Nothing: what fails stands in the log."""


if __name__ == "__main__":
    proxy = Proxy(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
    print(proxy.server_port, flush=True)
    proxy.serve_forever()
