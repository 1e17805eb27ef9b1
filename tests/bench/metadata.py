"""Stands in for Amazon's metadata service at 169.254.169.254: metadata.py MAC FILE, the card's addresses being in FILE."""

import socket
import sys
from pathlib import Path

CARD = f"/latest/meta-data/network/interfaces/macs/{sys.argv[1]}"


def answer(path: str) -> str | None:
    """What is there, None where nothing is."""
    if path == f"{CARD}/local-ipv4s":
        return Path(sys.argv[2]).read_text()
    there = {
        "/latest/api/token": "token", "/latest/meta-data/mac": "02:00:00:00:00:01", f"{CARD}/device-number": "1",
        f"{CARD}/interface-id": "eni-0123456789abcdef0",
    }  # fmt: skip
    return there.get(path)


def main() -> None:
    """Answer until nobody is left to ask."""
    server = socket.create_server(("169.254.169.254", 80), backlog=64)
    print("listening", flush=True)
    while True:
        asked, _ = server.accept()
        with asked:
            request = b""
            while b"\r\n\r\n" not in request:
                part = asked.recv(4096)
                if not part:
                    break
                request += part
            words = request.decode(errors="replace").split(" ", 2)
            body = answer(words[1]) if len(words) > 1 else None
            status = "404 Not Found" if body is None else "200 OK"
            length = len(body or "")
            asked.sendall(f"HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body or ''}".encode())


main()
