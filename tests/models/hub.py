"""Plays a Hugging Face hub over real HTTP: a listing, and files with ranges. It can break off, and lie."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

SHA = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """What the hub has, and how it behaves; `requests` are the files asked for, with their ranges."""

    url: str = ""
    repos: dict[str, dict[str, bytes]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    sizes: dict[str, int] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    ranges: bool = True
    # say no size: whoever reads knows the end by the connection's
    lengths: bool = True
    # break the connection after so many bytes, as often as is said
    break_after: int | None = None
    breaks: int = 10**9
    corrupt: bool = False
    # instead of breaking off, say nothing until this is set
    hold: threading.Event | None = None
    paths: list[str] = field(default_factory=list)
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)

    def add(self, repo: str, **files: bytes) -> None:
        self.repos.setdefault(repo, {}).update(files)

    def info(self, repo: str) -> dict[str, object]:
        siblings = [
            {
                "rfilename": name,
                "size": self.sizes.get(name, len(content)),
                "blobId": "0" * 40,
                "lfs": {
                    "sha256": hashlib.sha256(content).hexdigest(),
                    "size": len(content),
                    "pointerSize": 134,
                },
            }
            for name, content in self.repos[repo].items()
        ]
        return {"_id": "1", "id": repo, "modelId": repo, "sha": SHA, "siblings": siblings}


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serve `hub` on a port of this machine."""
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = _Server(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    def handle_error(self, *args: object) -> None:
        """A client that leaves is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path).lstrip("/")
        self.hub.paths.append(path)
        if path in self.hub.redirects:
            self._answer(302, b"", Location=self.hub.redirects[path])
        elif path.startswith("api/models/"):
            self._info(path.removeprefix("api/models/").partition("/revision/")[0])
        else:
            self._file(path)

    def _info(self, repo: str) -> None:
        if repo in self.hub.gated:
            body = {"error": f"Access to model {repo} is restricted"}
            self._json(403, body, **{"X-Error-Code": "GatedRepo"})
        elif repo not in self.hub.repos:
            self._json(404, {"error": "Repository not found"}, **{"X-Error-Code": "RepoNotFound"})
        else:
            self._json(200, self.hub.info(repo))

    def _file(self, path: str) -> None:
        org, name, *rest = path.split("/")
        file = "/".join(rest[2:]) if rest[:1] == ["resolve"] else "/".join(rest)
        content = self.hub.repos.get(f"{org}/{name}", {}).get(file)
        asked = self.headers.get("Range")
        self.hub.requests.append((file, asked))
        self.hub.tokens.append(self.headers.get("Authorization"))
        if content is None:
            self._answer(404, b"")
            return
        if self.hub.corrupt:
            content = content[:-1] + bytes([content[-1] ^ 1])
        start, end = 0, len(content)
        if asked and self.hub.ranges:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, end = int(first), min(len(content), int(last) + 1 if last else len(content))
        self._send(content, start, end, partial=bool(asked and self.hub.ranges))

    def _send(self, content: bytes, start: int, end: int, *, partial: bool) -> None:
        self.send_response(206 if partial else 200)
        if self.hub.lengths:
            self.send_header("Content-Length", str(end - start))
        else:
            self.close_connection = True
            self.send_header("Connection", "close")
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()[:8]}"')
        if partial:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(content)}")
        self.end_headers()
        limit = self.hub.break_after
        if limit is not None and end - start > limit and self.hub.breaks > 0:
            self.hub.breaks -= 1
            self.wfile.write(content[start : start + limit])
            self.wfile.flush()
            if self.hub.hold is not None:
                self.hub.hold.wait(30)
            self.close_connection = True
            return
        self.wfile.write(content[start:end])

    def _json(self, status: int, value: object, **headers: str) -> None:
        self._answer(status, json.dumps(value).encode(), **headers)

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
