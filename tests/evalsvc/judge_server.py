"""A chat server in this process whose answers are a function of the request's body."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

USAGE = {"prompt_tokens": 1000, "completion_tokens": 100}


@dataclass
class JudgeServer:
    """``answer`` gives the content of a reply (``None`` for no content), or a status that refuses."""

    answer: Callable[[dict[str, Any]], str | int | None]
    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)

    def file(self, folder: Path, **more: Any) -> str:
        """Path of an endpoint file."""
        path = folder / "judge.json"
        path.write_text(json.dumps({"url": self.url, "model": "judge", **more}))
        return str(path)


@contextmanager
def judge_server(answer: Callable[[dict[str, Any]], str | int | None]) -> Iterator[JudgeServer]:
    """The server, until the end of the block."""
    found = JudgeServer(answer)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            found.bodies.append(body)
            said = found.answer(body)
            refused = isinstance(said, int)
            reply = {"error": "no"} if refused else {"choices": [{"message": {"content": said}}], "usage": USAGE}
            content = json.dumps(reply).encode()
            self.send_response(said if refused else 200)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        found.url = f"http://127.0.0.1:{http.server_port}/v1"
        yield found
        http.shutdown()


def question_of(body: dict[str, Any]) -> str:
    """The text of the question."""
    return body["messages"][-1]["content"]


def shown(body: dict[str, Any], name: str) -> str:
    """The data that a question shows under a name."""
    found = re.search(
        rf"<{name} (?P<number>[0-9a-f]{{12}})>\n(.*?)\n</{name} (?P=number)>", question_of(body), re.DOTALL
    )
    return found[2] if found else ""


def graded(**grades: Any) -> str:
    """A well-formed reply."""
    return json.dumps({"reason": "so", **grades})
