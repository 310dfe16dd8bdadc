"""The container's health check: exits 0 when this container answers 200.

It runs every few seconds beside the service and inside its memory limit, so
it imports next to nothing.
"""

import socket
import sys

from agent.settings import HEALTH_PORT

try:
    with socket.create_connection(("127.0.0.1", HEALTH_PORT), timeout=2) as connection:
        connection.sendall(b"GET /health HTTP/1.0\r\n\r\n")
        answer = b""
        while chunk := connection.recv(4096):
            answer += chunk
except OSError as error:
    sys.exit(f"no answer: {error}")

head, _, body = answer.partition(b"\r\n\r\n")
print(body.decode(errors="replace").strip())
sys.exit(0 if head.split(b" ", 2)[1:2] == [b"200"] else 1)
