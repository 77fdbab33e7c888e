"""Sends text and 1 MiB of bytes over a WebSocket and expects them back: ws_client.py URL"""

import asyncio
import sys

from websockets.asyncio.client import connect


async def main():
    async with connect(sys.argv[1], max_size=4 << 20) as socket:
        for message in ('{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"forbidden"}}', bytes(range(256)) * 4096):
            await socket.send(message)
            if await socket.recv() != message:
                sys.exit("a message came back changed")
    print("echoed")


asyncio.run(main())
