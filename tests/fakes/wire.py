"""A client's end of a plain socket to the gateway, and requests for it byte by byte."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fakes.front_door import KEY, FrontDoor
from fakes.upstream import chunk

BODY = b'{"model":"tiny"}'
STREAM = b'{"model":"tiny","stream":true}'


def a_request(body: bytes = BODY, *lines: str, method: str = "POST", path: str = "/v1/chat/completions") -> bytes:
    first = [f"{method} {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {KEY}", *lines]
    return "\r\n".join([*first, f"Content-Length: {len(body)}", "", ""]).encode() + body


def in_chunks(*parts: bytes, last: bytes = b"0\r\n\r\n", lines: tuple[str, ...] = ()) -> bytes:
    first = ["POST /v1/chat/completions HTTP/1.1", "Host: x", f"Authorization: Bearer {KEY}", *lines]
    return "\r\n".join([*first, "Transfer-Encoding: chunked", "", ""]).encode() + b"".join(map(chunk, parts)) + last


class Wire:
    """A client's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self, *, has_body: bool = True, seconds: float = 10) -> tuple[int, dict[str, str], bytes]:
        async with asyncio.timeout(seconds):
            first, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}
            body = bytearray()
            if not has_body:
                pass
            elif "content-length" in fields:
                body += await self.reader.readexactly(int(fields["content-length"]))
            elif fields.get("transfer-encoding") == "chunked":
                while size := int(await self.reader.readline(), 16):
                    body += (await self.reader.readexactly(size + 2))[:-2]
                await self.reader.readline()
            return int(first.split(" ")[1]), fields, bytes(body)

    async def rest(self) -> bytes:
        """Everything until the gateway closes."""
        async with asyncio.timeout(10):
            return await self.reader.read()


@asynccontextmanager
async def wire(door: FrontDoor) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(door.url.rpartition(":")[2]))
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()
