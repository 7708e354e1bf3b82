"""A proxy on loopback between the function and S3 that answers 503 to a share of the calls.

The function cannot know whether a call that failed took effect. Half of the failures are answered before the
call is passed on, half after S3 has done it. Each one is written down, with its time, for the audit.
Run as `python -m benchmarks.fault_proxy UPSTREAM_PORT SHARE SEED LOG`; prints its own port.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

HOST = "127.0.0.1"
BUSY_BODY = (
    b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>SlowDown</Code>'
    b"<Message>Please reduce your request rate.</Message></Error>"
)


class Proxy:
    """Passes requests on, one per connection."""

    def __init__(self, upstream: int, share: float, seed: int, log: TextIO) -> None:
        self._upstream, self._share, self._random, self._log = upstream, share, random.Random(seed), log

    async def serve(self) -> asyncio.Server:
        return await asyncio.start_server(self._client, HOST, 0, limit=1 << 20)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._exchange(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        fields = headers(head)
        if fields.get("expect", "").lower() == "100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            await writer.drain()
            head = without(head, "expect")
        body = await reader.readexactly(int(fields.get("content-length", 0)))
        fails = self._random.random() < self._share
        before = fails and self._random.random() < 0.5
        answer = b"" if before else await self._pass_on(head, body)
        if fails:
            self._write_down(head, "before" if before else "after")
            answer = busy(with_body=not head.startswith(b"HEAD "))
        writer.write(answer)
        await writer.drain()

    async def _pass_on(self, head: bytes, body: bytes) -> bytes:
        """moto's answer; it closes the connection after each one."""
        reader, writer = await asyncio.open_connection(HOST, self._upstream)
        try:
            writer.write(head + body)
            await writer.drain()
            return await reader.read(-1)
        finally:
            writer.close()

    def _write_down(self, head: bytes, moment: str) -> None:
        method = head.split(b" ", 1)[0].decode()
        self._log.write(json.dumps({"at": time.time(), "method": method, "effect": moment}) + "\n")
        self._log.flush()


def headers(head: bytes) -> Mapping[str, str]:
    """Fields of an HTTP head, names in lower case. Raises ConnectionError for a chunked body, which S3 clients with
    plain bytes do not send.
    """
    fields = {}
    for line in head.decode("latin-1").split("\r\n")[1:]:
        name, colon, value = line.partition(":")
        if colon:
            fields[name.strip().lower()] = value.strip()
    if "chunked" in fields.get("transfer-encoding", ""):
        raise ConnectionError("chunked bodies are not passed on")
    return fields


def without(head: bytes, name: str) -> bytes:
    """The head without one field."""
    lines = head.split(b"\r\n")
    return b"\r\n".join(line for line in lines if not line.lower().startswith(name.encode() + b":"))


def busy(with_body: bool) -> bytes:
    """The answer of an S3 that is busy."""
    fields = f"Content-Type: application/xml\r\nContent-Length: {len(BUSY_BODY)}\r\nConnection: close\r\n\r\n"
    return b"HTTP/1.1 503 Slow Down\r\n" + fields.encode() + (BUSY_BODY if with_body else b"")


async def run(upstream: int, share: float, seed: int, log: Path) -> None:
    """Serve until the process is ended."""
    with log.open("a") as stream:
        server = await Proxy(upstream, share, seed, stream).serve()
        print(server.sockets[0].getsockname()[1], flush=True)
        async with server:
            await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(run(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])))
