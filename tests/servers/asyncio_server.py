"""asyncio's own server; each answer takes so many milliseconds."""

import asyncio
import sys

delay = int(sys.argv[2]) / 1000 if len(sys.argv) > 2 else 0


async def client(reader, writer):
    try:
        while await reader.readuntil(b"\r\n\r\n"):
            if delay:
                await asyncio.sleep(delay)
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main():
    server = await asyncio.start_server(client, "127.0.0.1", int(sys.argv[1]), backlog=1024)
    await server.serve_forever()


asyncio.run(main())
