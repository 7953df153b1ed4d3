"""The first packets of a connection, as a server reads them.

A client may first ask for TLS or GSS encryption on a plain socket; it gets a plain no, and then
sends its start-up packet. Gate and relay both begin so.
"""

from __future__ import annotations

import asyncio
import struct

from aurora_operator.engines.postgresql import wire


async def read_startup(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, timeout_seconds: float = 5.0
) -> dict[str, str]:
    """Read up to and including the start-up packet; returns its parameters."""
    async with asyncio.timeout(timeout_seconds):
        while True:
            (length,) = struct.unpack("!I", await reader.readexactly(4))
            if not 8 <= length <= wire.STARTUP_BYTES_MAX:
                raise wire.WireError(f"a start-up packet claims a length of {length} bytes")
            body = await reader.readexactly(length - 4)
            (code,) = struct.unpack_from("!I", body)
            if code in (wire.SSL_REQUEST, wire.GSSENC_REQUEST):
                writer.write(b"N")
                continue
            if code >> 16 != wire.PROTOCOL_3 >> 16:
                raise wire.WireError(f"the client speaks protocol {code:#x}, not version 3")
            return wire.parse_startup(body[4:])
