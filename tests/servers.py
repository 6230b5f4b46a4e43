"""A web server on the loopback range that serves what a test tells it to, lies included."""

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit


class Site:
    """``pages`` is what is there by its path: bytes, or a function that answers a handler.

    ``asked`` are the method and the path with its query of every question; ``etags``: whether the
    answers have them; ``logins`` are the Authorization headers.
    """

    def __init__(self) -> None:
        self.pages: dict[str, bytes | Callable] = {}
        self.asked: list[tuple[str, str]] = []
        self.logins: list[str | None] = []
        self.etags = False
        self.url = ""

    @property
    def paths(self) -> list[str]:
        """The paths of what was asked for."""
        return [urlsplit(path).path for _, path in self.asked]

    def folder(self, path: str, *links: str) -> None:
        """List these links at a path."""
        rows = "".join(f'<li><a href="{link}">{link}</a></li>' for link in links)
        page = f"<html><body><ul>{rows}</ul></body></html>"
        self.pages[path] = page.encode("utf-8", "surrogateescape")

    def files(self, path: str, **contents: bytes) -> None:
        """Put files into a folder at a path and list them; ``_`` in a name stands for a dot."""
        names = {name.replace("_", "."): data for name, data in contents.items()}
        self.folder(path, "../", "?C=N;O=D", *names)
        self.pages |= {path + name: data for name, data in names.items()}

    @staticmethod
    def endless(handler: "Handler") -> None:
        """Say no length and send for ever; give up when the other side has."""
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        while handler.command != "HEAD":
            try:
                handler.wfile.write(b"<li>0123456789abcdef" * 4096)
            except OSError:
                return

    @staticmethod
    def sends_to(location: str) -> "Callable[[Handler], None]":
        """Return an answer that sends elsewhere."""
        return lambda handler: handler.say(302, b"", {"Location": location})


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        site = self.server.site
        site.asked.append((self.command, self.path))
        site.logins.append(self.headers.get("Authorization"))
        page = site.pages.get(urlsplit(self.path).path)
        if callable(page):
            self.close_connection = True
            page(self)
        elif page is None:
            self.say(404)
        else:
            start, wanted = 0, self.headers.get("Range")
            body = page
            headers = {"ETag": f'"{hash(page):x}"'} if site.etags else {}
            if wanted:
                first, _, last = wanted.removeprefix("bytes=").partition("-")
                start, end = int(first), int(last) + 1 if last else len(page)
                body = page[start:end]
                headers["Content-Range"] = f"bytes {start}-{start + len(body) - 1}/{len(page)}"
            self.say(206 if wanted else 200, body, headers)

    def say(self, status: int, body: bytes = b"", headers: dict | None = None) -> None:
        """Answer with a body whose length is told, unless ``headers`` tell another one."""
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            if value is not None:
                self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@contextmanager
def serving(certificate: Path | None = None) -> Iterator[Site]:
    """Give a site that is served; with a certificate (and its key, in one file) over https."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, True)
        server.handle_error = lambda *_: None  # a client that does not accept it
    server.daemon_threads, server.block_on_close = True, False
    server.site = Site()
    scheme = "http" if certificate is None else "https"
    server.site.url = f"{scheme}://127.0.0.1:{server.server_port}/"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server.site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
