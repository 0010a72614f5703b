"""A chat server in a process of its own that does to a request what the request says: `python servers.py LOG [--cured]`.

The last message of a request is `TROUBLE TIMES | anything`: the trouble lasts for the first so many attempts at that
message, for ever if TIMES is `always`. Every answer is a function of the message. Prints its port, and writes a line
to LOG for every request (`asked ...`) and for every answer that was sent whole (`answered ...`).
"""

import argparse
import asyncio
import json
import os
from collections import Counter
from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path

Writer = asyncio.StreamWriter


def answer(text: str, **more) -> dict:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 5, "completion_tokens": 7}
    return {"model": "org/model", "choices": [choice], "usage": usage, **more}


def said_to(prompt: str) -> str:
    return f"said to {prompt}: {sha256(prompt.encode()).hexdigest()[:8]}"


def reply(body: bytes | dict, status: int = 200, *headers: str) -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = [f"HTTP/1.1 {status} Any", *headers, f"Content-Length: {len(data)}", "", ""]
    return "\r\n".join(head).encode() + data


def plain(*arguments, **more) -> Callable[[Writer], Awaitable[None]]:
    async def send(writer: Writer) -> None:
        writer.write(reply(*arguments, **more))

    return send


def raw(data: bytes, *, close: bool = True) -> Callable[[Writer], Awaitable[None]]:
    async def send(writer: Writer) -> None:
        writer.write(data)
        await writer.drain()
        if close:
            writer.close()

    return send


async def hang(writer: Writer) -> None:
    await asyncio.sleep(60)


async def drip(writer: Writer) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n")
    while not writer.is_closing():
        writer.write(b" ")
        await asyncio.sleep(0.02)


async def drip_head(writer: Writer) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nX: ")
    while not writer.is_closing():
        writer.write(b"x")
        await asyncio.sleep(0.02)


async def flood(writer: Writer, head: bytes, piece: bytes) -> None:
    writer.write(head)
    while not writer.is_closing():
        writer.write(piece)
        await writer.drain()


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
BIG = answer("word " * 2_000_000)  # 10 MB
TWO = answer("one") | {"choices": answer("one")["choices"] * 2}


def with_message(**message) -> dict:
    choice = {"message": {"role": "assistant", **message}, "finish_reason": "stop"}
    return answer("") | {"choices": [choice]}


def troubles(header: str) -> dict[str, Callable[[Writer], Awaitable[None]]]:
    """Return what may be done, given the header that says who asks."""
    echo = {"error": {"message": f"who is {header}?", "code": header}}
    return {
        "hang": hang,
        "drip": drip,
        "drip-head": drip_head,
        "429": plain(b"slow down", 429),
        "429-at-once": plain(b"slow down", 429, "Retry-After: 0"),
        "500": plain({"error": {"message": "oops"}}, 500),
        "503": plain(b"", 503),
        "cut": raw(b""),
        "cut-body": raw(reply(answer("cut off"))[:-9]),
        "cut-chunk": raw(CHUNKED + b"40\r\nfirst"),
        "no-http": raw(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"),
        "no-json": plain(b'{"choices": ['),
        "no-utf8": plain(b'{"choices": "\xff\xfe\xc3"}'),
        "half-character": plain(json.dumps(answer("\ud83d")).encode()),
        "deep": plain(b"[" * 1_000_000),
        "two": plain(TWO),
        "empty": plain(answer("") | {"choices": []}),
        "null": plain(with_message(content=None)),
        "list": plain(b"[]"),
        "error-in-200": plain({"error": {"message": "overloaded"}}),
        "endless": lambda writer: flood(writer, b"HTTP/1.1 200 OK\r\n\r\n", b" " * 65536),
        "endless-chunks": lambda writer: flood(writer, CHUNKED, b"10000\r\n" + b" " * 65536 + b"\r\n"),
        "endless-head": lambda writer: flood(writer, b"HTTP/1.1 200 OK\r\n", b"A: b\r\n" * 1000),
        "endless-interim": lambda writer: flood(writer, b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
        "says-huge": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"),
        "negative-length": raw(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}"),
        "twice": raw(reply(answer("the next one's?")) * 2, close=False),
        "refuse": plain(echo, 400),
        "refuse-flagged": plain({"error": {"message": "your input was flagged"}}, 403),
        "refuse-key": plain(echo, 401),
        "too-long": plain({"error": {"message": "x", "code": "context_length_exceeded"}}, 400),
        "echo-500": plain(echo, 500),
        "echo-text": plain(answer(f"you are {header}")),
        "echo-reason": plain(answer("x") | {"choices": [{"message": {"content": "x"}, "finish_reason": header}]}),
        "tool-call": plain(with_message(content=None, tool_calls=[{}])),
        "reasoning": plain(with_message(content=None, reasoning_content="hm")),
        "big": plain(BIG),
        "chunks": raw(CHUNKED + b"".join(b"%x;a=b\r\n%s\r\n" % (1, bytes([byte])) for byte in json.dumps(answer("in chunks")).encode()) + b"0\r\nA: b\r\n\r\n", close=False),
        "until-close": raw(b"HTTP/1.0 200 OK\r\n\r\n" + json.dumps(answer("until the end")).encode()),
        "nan-usage": plain(b'{"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": NaN, "completion_tokens": 1e400}}'),
        "negative-usage": plain(answer("x", usage={"prompt_tokens": -5, "completion_tokens": 10**30})),
        "odd-usage": plain(answer("x", usage={"prompt_tokens": True, "completion_tokens": "7"})),
    }  # fmt: skip


ANSWERED = {"twice", "echo-text", "big", "chunks", "until-close", "nan-usage", "negative-usage", "odd-usage"}
"""What is an answer all the same."""


class Chat:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.attempts, self.answered = options, Counter(), 0
        self.log = Path(options.log).open("a", buffering=1)  # noqa: SIM115 - open as long as the process

    async def serve(self, reader: asyncio.StreamReader, writer: Writer) -> None:
        try:
            while not writer.is_closing():
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
                body = await reader.readexactly(int(headers["Content-Length"]))
                await self.answer(headers.get("Authorization", ""), json.loads(body), writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def answer(self, header: str, payload: dict, writer: Writer) -> None:
        prompt = payload["messages"][-1]["content"]
        self.log.write(f"asked {prompt}\n")
        if self.options.delay:
            await asyncio.sleep(self.options.delay)
        told, bar, _ = prompt.partition(" | ")
        trouble, _, times = told.partition(" ") if bar else ("", "", "")
        self.attempts[prompt] += 1
        lasts = times == "always" or (times.isdigit() and self.attempts[prompt] <= int(times))
        if lasts and not self.options.cured:
            await troubles(header)[trouble](writer)
            if trouble not in ANSWERED:
                return
        else:
            writer.write(reply(answer(said_to(prompt))))
        await writer.drain()
        self.log.write(f"answered {prompt}\n")
        self.answered += 1
        if self.answered == self.options.dies_after:
            os._exit(1)


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("log")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--cured", action="store_true", help="do no one any harm")
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--dies-after", type=int, default=-1)
    chat = Chat(parser.parse_args())
    server = await asyncio.start_server(chat.serve, "127.0.0.1", chat.options.port, backlog=1000)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
