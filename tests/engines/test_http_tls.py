"""Servers behind TLS: whom prefkit believes, and that nobody else is told the key."""

import socket
import ssl
import threading
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer

import pytest

from prefkit.engines import Completion, Message, Model, Request, in_order
from prefkit.engines.http import HttpEngine, Patience
from prefkit.errors import EngineError

TLS = Path(__file__).with_name("tls")
KEY = "sk-planted-key-123"
ANSWER = b'{"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}'
QUICK = Patience(attempts=2, first_pause=0.01, timeout=5.0)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.server.heard.append(self.headers["Authorization"])
        self.send_response(200)
        self.send_header("content-length", str(len(ANSWER)))
        self.end_headers()
        self.wfile.write(ANSWER)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    """Speaks TLS; keeps the keys it was told, and the handshakes that failed."""

    daemon_threads = True

    def __init__(self, certificate: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.heard, self.failed = [], []
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(TLS / certificate)

    def finish_request(self, request, client_address):
        try:
            with self.context.wrap_socket(request, server_side=True) as line:
                super().finish_request(line, client_address)
        except OSError as error:  # the client hangs up on a certificate it does not take
            self.failed.append(error)

    def handle_error(self, *_):
        pass


@contextmanager
def serving(certificate: str):
    with Server(certificate) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def ask(port: int, host: str = "127.0.0.1") -> list:
    engine = HttpEngine(f"https://{host}:{port}/v1", KEY, 4, QUICK)
    return in_order(
        engine.generate(Model(id="m"), [Request((Message("user", str(at)),), 8) for at in range(9)]), 9
    )


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_server_whose_authority_is_named_is_believed(monkeypatch, host):
    monkeypatch.setenv("SSL_CERT_FILE", str(TLS / "authority.pem"))
    with serving("loopback.pem") as server:
        assert ask(server.server_port, host) == [Completion("hi", 0, "stop")] * 9
        assert server.heard == [f"Bearer {KEY}"] * 9


@pytest.mark.parametrize(
    ("certificate", "authority", "why"),
    [
        ("loopback.pem", None, "self-signed certificate in certificate chain|unable to get local issuer"),
        ("elsewhere.pem", "authority.pem", "certificate is not valid for '127.0.0.1'"),
        ("expired.pem", "authority.pem", "certificate has expired"),
    ],
    ids=["unknown authority", "another host", "expired"],
)
def test_a_server_that_proves_nothing_is_told_nothing(monkeypatch, certificate, authority, why):
    if authority:
        monkeypatch.setenv("SSL_CERT_FILE", str(TLS / authority))
    with serving(certificate) as server:
        with pytest.raises(EngineError, match=why) as caught:
            ask(server.server_port)
        assert server.heard == []
    assert f"the server at https://127.0.0.1:{server.server_port}/v1 cannot be trusted: " in caught.value.what
    assert "SSL_CERT_FILE" in caught.value.hint
    assert len(server.failed) <= 4, "one attempt a request under way, and none again"
    assert KEY not in str(caught.value)


class Tunnel(StreamRequestHandler):
    """A proxy that leads to whoever is asked for."""

    def handle(self):
        host, port = self.rfile.readline().split()[1].decode().split(":")
        while self.rfile.readline().strip():
            pass
        with socket.create_connection((host, int(port))) as far:
            self.wfile.write(b"HTTP/1.1 200 Connected\r\n\r\n")
            self.server.heard.append((host, int(port)))
            back = threading.Thread(target=pour, args=(far, self.connection))
            back.start()
            pour(self.connection, far)
            back.join()


def pour(here: socket.socket, there: socket.socket) -> None:
    with suppress(OSError):
        while data := here.recv(65536):
            there.sendall(data)
    with suppress(OSError):
        there.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("is_believed", [True, False])
def test_through_a_proxy_the_same_servers_are_believed(monkeypatch, is_believed):
    if is_believed:
        monkeypatch.setenv("SSL_CERT_FILE", str(TLS / "authority.pem"))
    with serving("loopback.pem") as server, ThreadingTCPServer(("127.0.0.1", 0), Tunnel) as proxy:
        proxy.heard = []
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.server_address[1]}")
        monkeypatch.setenv("NO_PROXY", "elsewhere")
        monkeypatch.setenv("no_proxy", "elsewhere")
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            if is_believed:
                assert ask(server.server_port) == [Completion("hi", 0, "stop")] * 9
            else:
                with pytest.raises(EngineError, match=r"cannot be trusted: .*certificate"):
                    ask(server.server_port)
            assert set(proxy.heard) == {("127.0.0.1", server.server_port)}
            assert server.heard == [f"Bearer {KEY}"] * (9 * is_believed)
        finally:
            proxy.shutdown()
            thread.join()


def test_a_key_is_not_sent_in_the_open_to_an_address_that_begins_with_https():
    heard = []

    class Open(BaseHTTPRequestHandler):
        def handle(self):
            heard.append(self.connection.recv(65536))

    with ThreadingHTTPServer(("127.0.0.1", 0), Open) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        with pytest.raises(EngineError, match="no server answers at https://"):
            ask(server.server_port)
        server.shutdown()
        thread.join()
    assert heard
    assert all(KEY.encode() not in said for said in heard)
