from . import HTTP, Program, crowd, free_port

SCRIPT = """
import asyncio, sys
async def answer(reader, writer):
    await reader.read(999)
    await asyncio.sleep(0.01)
    writer.write(b'HTTP/1.0 200 OK\\r\\n\\r\\n')
    writer.close()
async def main():
    async with await asyncio.start_server(answer, '127.0.0.1', int(sys.argv[1]), backlog=500) as server:
        await server.serve_forever()
asyncio.run(main())
"""


def run(trial):
    port = free_port()
    trial.serve(["/usr/bin/python3", "-c", SCRIPT, port], port)
    return crowd(trial, port, 200, *HTTP)


PROGRAM = Program("Python, asyncio", "a server that listens no more for a second at its limit", ("/usr/bin/python3",), 48, run, short=False)
