"""Echoes WebSocket messages over TLS: ws_server.py PORT CERT KEY"""

import asyncio
import ssl
import sys

from websockets.asyncio.server import serve

PORT, CERT, KEY = sys.argv[1:4]


async def echo(socket):
    async for message in socket:
        await socket.send(message)


async def main():
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CERT, KEY)
    async with serve(echo, "127.0.0.1", int(PORT), ssl=context) as server:
        await server.serve_forever()


asyncio.run(main())
