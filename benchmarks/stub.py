"""A stub of an OpenAI-compatible server: `python benchmarks/stub.py [--delay 0.05] [--at-once 50]` prints its port and serves.

Each answer comes after a fixed delay and says how many it has answered. Above `at_once` requests under way, further ones
wait for a place, as in a server with a fixed number of slots. As little work as can be, so that what is measured is
the client.
"""

import argparse
import asyncio
from collections import deque

BODY = (
    b'{"id":"stub","object":"chat.completion","created":0,"model":"stub","choices":[{"index":0,"message":{"role":'
    b'"assistant","content":"answer %d, which is a short one"},"finish_reason":"stop"}],"usage":{"prompt_tokens":12,'
    b'"completion_tokens":8,"total_tokens":20}}'
)
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"


class Server:
    """What all connections share."""

    def __init__(self, delay: float, at_once: int) -> None:
        self.delay, self.free, self.answered = delay, at_once, 0
        self.waiting: deque[Connection] = deque()

    def begin(self, connection: "Connection") -> None:
        if self.free == 0:
            self.waiting.append(connection)
            return
        self.free -= 1
        asyncio.get_running_loop().call_later(self.delay, self._end, connection)

    def _end(self, connection: "Connection") -> None:
        self.free += 1
        self.answered += 1
        connection.answer(BODY % self.answered)
        if self.waiting:
            self.begin(self.waiting.popleft())


class Connection(asyncio.Protocol):
    """One connection, which has one request under way at most."""

    def __init__(self, server: Server) -> None:
        self._server, self._seen = server, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._seen += data
        head, _, body = self._seen.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        if b"\r\n\r\n" in self._seen and len(body) >= int(length or 0):
            self._seen = b""
            self._server.begin(self)

    def answer(self, body: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(HEAD % len(body) + body)


async def serve(delay: float, at_once: int) -> None:
    """Serve on a free port of this machine until killed."""
    shared = Server(delay, at_once)
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(shared), "127.0.0.1", 0, backlog=1024
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--delay", type=float, default=0.05, help="seconds before each answer")
    parser.add_argument("--at-once", type=int, default=50, help="requests that are worked on at a time")
    asked = parser.parse_args()
    asyncio.run(serve(asked.delay, asked.at_once))
