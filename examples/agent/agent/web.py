"""A small HTTP server that speaks JSON: bounded bodies, threads and times."""

import json
import logging
import socketserver
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer

MAX_BODY = 64 * 1024
THREADS = 8


class Refused(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Route:
    """Answers a method and a path; a path that ends in / hands on what follows."""

    method: str
    path: str
    answer: Callable[[str, dict], tuple[int, dict]]


class Server(socketserver.ThreadingMixIn, HTTPServer):
    request_queue_size = 128
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], routes: list[Route]):
        self.routes = routes
        self._pool = ThreadPoolExecutor(THREADS, "http")
        super().__init__(address, _Handler)

    def process_request(self, request, client_address):
        self._pool.submit(self.process_request_thread, request, client_address)

    def start(self) -> None:
        threading.Thread(target=self.serve_forever, args=(0.1,), name="server").start()

    def drain(self) -> None:
        """Takes no more requests and waits for the ones that were taken."""
        self.shutdown()
        self.server_close()
        self._pool.shutdown()

    def handle_error(self, request, client_address):
        logging.exception("answering %s", client_address)


class _Handler(BaseHTTPRequestHandler):
    timeout = 5  # seconds for a client to send its request
    server: Server

    def do_GET(self) -> None:
        self._answer("GET", {})

    def do_POST(self) -> None:
        try:
            body = self._body()
        except Refused as refused:
            self._send(refused.status, {"error": str(refused)})
            return
        self._answer("POST", body)

    def _answer(self, method: str, body: dict) -> None:
        path = self.path.partition("?")[0]
        try:
            for route in self.server.routes:
                rest = _match(route, method, path)
                if rest is not None:
                    self._send(*route.answer(rest, body))
                    return
            self._send(404, {"error": f"nothing answers {method} {path}"})
        except Refused as refused:
            self._send(refused.status, {"error": str(refused)})
        except Exception:
            logging.exception("answering %s %s", method, path)
            self._send(503, {"error": "could not be done now"})

    def _body(self) -> dict:
        try:
            length = int(self.headers.get("Content-Length", "0"))
        except ValueError:
            raise Refused(400, "Content-Length is not a number") from None
        if not 0 <= length <= MAX_BODY:
            raise Refused(413, f"a body has at most {MAX_BODY} bytes")
        if length == 0:
            return {}
        try:
            body = json.loads(self.rfile.read(length))
        except ValueError:
            raise Refused(400, "the body is not JSON") from None
        if not isinstance(body, dict):
            raise Refused(400, "the body is not an object")
        return body

    def _send(self, status: int, answer: dict) -> None:
        content = json.dumps(answer, ensure_ascii=False).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format, *args) -> None:
        logging.debug(format, *args)


def _match(route: Route, method: str, path: str) -> str | None:
    if route.method != method:
        return None
    if route.path.endswith("/"):
        return path[len(route.path) :] if path.startswith(route.path) else None
    return "" if path == route.path else None


def text(body: dict, key: str, most: int, default: str | None = None) -> str:
    """Reads a string of a body; refuses one that is missing, empty or too long."""
    value = body.get(key, default)
    if not isinstance(value, str) or not value:
        raise Refused(400, f"{key!r} must be a text")
    if len(value.encode()) > most:
        raise Refused(413, f"{key!r} has at most {most} bytes")
    return value
