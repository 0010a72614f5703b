"""The wire: POST to one address over connections that are kept open, with little work for each request.

prefkit has its own because the request is what a run repeats: this takes a seventh of the CPU time of a general client
(`benchmarks/http_engine.py`), so that one process keeps hundreds of requests a second under way. It can only do what
chat servers need. It follows no redirect, so a key goes to the address that was given and to no other; it keeps no
cookies, and asks for no compression. What asks for a proxy goes through httpx2.
"""

import asyncio
import ssl
from asyncio import Transport
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, cast
from urllib.parse import SplitResult, quote, urlsplit

from prefkit.engines.http_parse import MOST_BYTES, Broken, Reading, Reply, TooMuch

if TYPE_CHECKING:
    import httpx2

__all__ = ["Unreachable", "Untrusted", "Wire", "open_wire", "proxy_for"]

_CONNECT_SECONDS = 10.0
_NEXT_ADDRESS_SECONDS = 0.25
"""How long one address of a host may take before the next is tried beside it (RFC 8305)."""


class Unreachable(Exception):  # noqa: N818 - what is true of the server
    """No connection could be made. The text says why."""


class Untrusted(Exception):  # noqa: N818 - what is true of the server
    """Somebody answers who cannot prove to be the server. Nothing was sent. The text says why."""


class Wire(Protocol):
    """Sends bodies to one address."""

    async def post(self, body: bytes) -> Reply:
        """Return the reply to a JSON body. Raises Unreachable, Untrusted, Broken or TooMuch."""
        ...

    async def close(self) -> None:
        """End all connections."""
        ...


def open_wire(url: str, headers: Mapping[str, str], most: int = MOST_BYTES) -> Wire:
    """Return a wire to an address, connected to nothing yet.

    `headers` go with every request. `most` is the largest body taken, in bytes.
    """
    proxy = proxy_for(url)
    return _Proxied(url, headers, proxy, most) if proxy else _Direct(url, headers, most)


def proxy_for(url: str) -> str:
    """Return the proxy that the environment or the system names for an address, "" for none."""
    from urllib.request import getproxies, proxy_bypass

    parts, proxies = urlsplit(url), getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all") or ""
    return "" if not proxy or proxy_bypass(parts.hostname or "") else proxy


class _Direct:
    """Connections of our own, used again, the last one first."""

    def __init__(self, url: str, headers: Mapping[str, str], most: int) -> None:
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._tls = _tls() if parts.scheme == "https" else None
        self._port = parts.port or (443 if self._tls else 80)
        self._head, self._most = _head(parts, headers), most
        self._idle: list[_Line] = []

    async def post(self, body: bytes) -> Reply:
        line = self._resting() or await self._connect()
        try:
            reply = await line.ask(b"%s%d\r\n\r\n%s" % (self._head, len(body), body))
        except BaseException:
            line.close()
            raise
        if reply.is_last:
            line.close()
        else:
            self._idle.append(line)
        return reply

    async def close(self) -> None:
        for line in self._idle:
            line.close()
        self._idle.clear()
        await asyncio.sleep(0)  # a connection is closed in the next turn of the loop

    def _resting(self) -> "_Line | None":
        while self._idle:
            line = self._idle.pop()
            if line.is_open:
                return line
        return None

    async def _connect(self) -> "_Line":
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_CONNECT_SECONDS) as limit:
                _, line = await loop.create_connection(
                    lambda: _Line(loop, self._most),
                    self._host,
                    self._port,
                    ssl=self._tls,
                    happy_eyeballs_delay=_NEXT_ADDRESS_SECONDS,
                )
        except ssl.SSLCertVerificationError as error:
            raise Untrusted(error.verify_message) from None
        except (OSError, UnicodeError) as error:
            reason = f"no connection within {_CONNECT_SECONDS:g} s" if limit.expired() else str(error)
            raise Unreachable(reason or type(error).__name__) from None
        return line


class _Line(asyncio.Protocol):
    """One connection, on which one request is under way at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, most: int) -> None:
        self._loop, self._most = loop, most
        self._reading: Reading | None = None
        self._waiting: asyncio.Future[Reply] | None = None
        self._transport: Transport | None = None
        self.is_open = False

    async def ask(self, request: bytes) -> Reply:
        assert self._transport is not None
        self._reading, self._waiting = Reading(self._most), self._loop.create_future()
        self._transport.write(request)
        return await self._waiting

    def close(self) -> None:
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport, self.is_open = cast("Transport", transport), True

    def data_received(self, data: bytes) -> None:
        if self._reading is None or self._waiting is None or self._waiting.done():
            self.close()  # nothing was asked, and it must not be taken for the next answer
            return
        try:
            reply = self._reading.feed(data)
        except Broken as error:
            self._waiting.set_exception(error)
            self.close()
            return
        if reply is not None:
            self._waiting.set_result(reply)

    def eof_received(self) -> None:
        self._finish()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's name; end() says what was lost
        self._finish()

    def _finish(self) -> None:
        self.is_open = False
        if self._reading is None or self._waiting is None or self._waiting.done():
            return
        try:
            self._waiting.set_result(self._reading.end())
        except Broken as error:
            self._waiting.set_exception(error)


def _head(parts: SplitResult, headers: Mapping[str, str]) -> bytes:
    safe = "/%:@!$&'()*+,;=~?"
    target = quote(parts.path or "/", safe=safe) + (
        f"?{quote(parts.query, safe=safe)}" if parts.query else ""
    )
    host = parts.netloc.rpartition("@")[2].encode("idna").decode()
    lines = [
        f"POST {target} HTTP/1.1",
        f"Host: {host}",
        *(f"{name}: {text}" for name, text in headers.items()),
    ]
    return "\r\n".join([*lines, "Content-Length: "]).encode("latin-1")


def _tls() -> ssl.SSLContext:
    """Return how servers are believed: by the certificates that httpx2 believes."""
    import httpx2

    context = httpx2.create_ssl_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def _refused(error: BaseException | None) -> ssl.SSLCertVerificationError | None:
    """Return the refusal of a certificate that an error comes from, if it does."""
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return error


class _Proxied:
    """Through a proxy, by httpx2."""

    def __init__(self, url: str, headers: Mapping[str, str], proxy: str, most: int) -> None:
        self._url, self._headers, self._proxy, self._most = url, headers, proxy, most
        self._client: httpx2.AsyncClient | None = None

    async def post(self, body: bytes) -> Reply:
        import httpx2

        if self._client is None:
            self._client = httpx2.AsyncClient(
                proxy=self._proxy,
                headers=dict(self._headers),
                timeout=httpx2.Timeout(None, connect=_CONNECT_SECONDS),
                limits=httpx2.Limits(max_connections=None),
                trust_env=False,
                verify=httpx2.create_ssl_context(),
            )
        try:
            async with self._client.stream("POST", self._url, content=body) as response:
                return await self._read(response)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError) as error:
            if refused := _refused(error):
                raise Untrusted(refused.verify_message) from None
            raise Unreachable(f"{type(error).__name__} on the way through the proxy") from None
        except (httpx2.TransportError, httpx2.InvalidURL) as error:
            raise Broken(f"the connection broke ({type(error).__name__})") from None

    async def _read(self, response: "httpx2.Response") -> Reply:
        body = bytearray()
        async for piece in response.aiter_raw():
            body += piece
            if len(body) > self._most:
                raise TooMuch(f"the answer is larger than {self._most} bytes")
        headers = {name.lower(): text for name, text in response.headers.items()}
        return Reply(response.status_code, headers, bytes(body), False)

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()
