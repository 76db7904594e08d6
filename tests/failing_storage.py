"""A proxy before an S3 server: it refuses requests, cuts answers, falls silent or goes away, as a test says."""

import http.client
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import SHUT_RDWR, socket
from urllib.parse import urlsplit

from typing_extensions import override

Fault = Callable[[str, str], object]
"""What happens to a request (method, path): None for nothing, a status, or one of the words below."""
CUT, SILENT = "cut", "silent"
"""The connection ends in the middle of the answer, or of the content that is sent; nothing is ever answered."""


class FailingStorage(ThreadingHTTPServer):
    """`fault` is asked at each request; `refused` counts those that it spoiled, by method."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, upstream: str, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.upstream = urlsplit(upstream).netloc
        self.fault: Fault = lambda method, path: None
        self.refused: Counter[str] = Counter()
        self.released = threading.Event()
        self._connections: set[socket] = set()

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}"

    @override
    def process_request(self, request, client_address) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    @override
    def shutdown_request(self, request) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    @override
    def handle_error(self, request, client_address) -> None:
        """A client that has gone is no news."""

    def go_away(self) -> None:
        """End, as a killed server: with its connections, and nobody listens any more."""
        self.shutdown()
        self.server_close()
        self.released.set()
        for connection in list(self._connections):
            try:
                connection.shutdown(SHUT_RDWR)
            except OSError:  # it has ended
                continue


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FailingStorage

    def _pass_on(self) -> None:
        fault = self.server.fault(self.command, self.path)
        if fault is not None:
            self.server.refused[self.command] += 1
        if fault == SILENT:
            self.server.released.wait()
            self.close_connection = True
            return
        if fault == CUT and self.command == "PUT":
            self.rfile.read(1)
            self.close_connection = True
            return
        content = self._content()
        if isinstance(fault, int):
            self._answer(fault, {}, b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>")
            return
        upstream = http.client.HTTPConnection(self.server.upstream, timeout=30)
        upstream.request(self.command, self.path, content, _without(self.headers.items(), "Transfer-Encoding", "Expect"))
        answer = upstream.getresponse()
        headers = _without(answer.getheaders(), "Connection", "Transfer-Encoding")
        self._answer(answer.status, headers, answer.read(), share=0.5 if fault == CUT else 1.0)
        upstream.close()

    def _content(self) -> bytes:
        """What is sent, of known length or in chunks."""
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _answer(self, status: int, headers: dict[str, str], content: bytes, *, share: float = 1.0) -> None:
        self.send_response_only(status)
        headers = {"Content-Length": str(len(content))} | headers
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: int(len(content) * share)])
        self.close_connection |= share < 1

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass_on

    @override
    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _without(headers: Iterable[tuple[str, str]], *names: str) -> dict[str, str]:
    return {name: value for name, value in headers if name.title() not in names}


@contextmanager
def failing_storage(upstream: str, *, port: int = 0) -> Iterator[FailingStorage]:
    """A proxy before the server at `upstream`, which passes everything on until it is told otherwise."""
    proxy = FailingStorage(upstream, port)
    threading.Thread(target=proxy.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield proxy
    finally:
        proxy.go_away()
