"""A provider on loopback: every route LiteLLM speaks, steered by words in the prompt.

The tests call the real LiteLLM, and LiteLLM calls this. It answers as OpenAI, Anthropic, Cohere and
Jina do on the wire, and nothing here knows capsules. The answer is "hello world!" (streamed as
"hello", " wor", "ld!") for 10 prompt and 2 completion tokens, unless the last user message (or
input, prompt, query) holds one of these words, surrounded by blanks:

====================  ==============================================================================
``fail<status>``      an error with that HTTP status: ``fail500``, ``fail401``, ``fail429``
``policy400``         400, code ``content_policy_violation``
``drop``              the connection is closed without an answer
``flaky<N>-<key>``    the first N requests with that key fail with 500
``slow<seconds>``     wait before answering: ``slow1``, ``slow0.3``
``miderr``            stream: an error event after the second chunk
``middrop``           stream: the connection breaks after the second chunk, the body unfinished
``midslow<seconds>``  stream: a pause after the second chunk, of 1 s if no number follows
``say:<token>``       the answer is the token
``echo``              the answer is the name of the model
``long<N>``           the answer is N words, in a stream N chunks
``calltool``          the answer calls the first of the request's tools, until its result follows
``tokens<P>/<C>``     usage P and C
``nousage``           no usage at all
``usagechunk``        stream: a usage chunk although ``stream_options`` did not ask for one
``flagme``            moderations: the input is flagged
``shape:<name>``      one of the shapes of provider_shapes.py; or this JSON or page, as 200. A list is
                      events, after which the connection breaks if the last one is ``"drop"``;
                      ``data:…|`` are events as well, under a wrong type
====================  ==============================================================================

The model ``bad`` fails with 500, whatever the text. A form (transcriptions, image edits) is steered
by its ``prompt`` field.

In this process, in one of its own (load tests), or from a shell::

    with Provider() as provider: ...  # .base_url, .requests, .count("flaky2-a")
    with Provider.start_process() as provider: ...  # the same three
    python tests/provider.py --port 0  # prints its base URL, serves until stdin closes
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import socket
import socketserver
import stat
import subprocess
import sys
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import provider_shapes
from provider_answers import PLAIN, Json, Request, error_body, form
from provider_streams import STREAMED, Stream


class Logged(NamedTuple):
    """What the log keeps of a request."""

    route: str
    model: str
    text: str


class _Handler(socketserver.StreamRequestHandler):
    """One connection; HTTP by hand, since http.server's email parser costs more than the rest."""

    disable_nagle_algorithm = True
    server: _Server

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # a client may leave whenever it likes
            while self.exchange():
                pass

    def exchange(self) -> bool:
        """Answer one request; False if the connection ends with it."""
        line = self.rfile.readline(65_536).split()
        if len(line) != 3:
            return False
        headers: dict[bytes, bytes] = {}
        while (header := self.line()).strip():
            name, _, value = header.partition(b":")
            headers[name.strip().lower()] = value.strip()
        if headers.get(b"transfer-encoding", b"").lower() == b"chunked":
            raw = b"".join(self.chunks())
        else:
            raw = self.exactly(int(headers.get(b"content-length", 0)))
        route = re.sub(r"^(/v[12])*/|/?(\?.*)?$", "", line[1].decode())
        if line[0] == b"GET":
            return self.answer_get(route)
        if headers.get(b"content-type", b"").startswith(b"multipart/"):
            body = form(raw)
        else:
            body = json.loads(raw or b"{}")
        keep = self.answer(Request(route, body))
        return keep and headers.get(b"connection", b"").lower() != b"close"

    def chunks(self) -> Iterator[bytes]:
        while size := int(self.line().partition(b";")[0], 16):
            yield self.exactly(size)
            self.line()
        self.line()

    def line(self) -> bytes:
        return self.rfile.readline(65_536) or self.gone()

    def exactly(self, size: int) -> bytes:
        data = self.rfile.read(size)
        return data if len(data) == size else self.gone()

    def gone(self) -> NoReturn:
        raise ConnectionResetError("the client left in the middle of its request")

    def answer_get(self, route: str) -> bool:
        if route == "_stats":
            self.send(200, self.server.log.stats())
        elif route == "models":
            self.send(200, {"object": "list", "data": [{"id": "gpt-4o", "object": "model"}]})
        else:
            self.send(404, {"error": {"message": f"no such route: {route}"}})
        return True

    def answer(self, r: Request) -> bool:
        self.server.log.add(r)
        self.server.stopping.wait(float(r.words.get("slow", 0)))
        if "drop" in r.words:
            return False
        if "lines" in r.words:
            told = json.loads(r.words["lines"])
            body = "".join(f"{json.dumps(line)}\n" for line in told).encode()
            length = f"Content-Length: {len(body)}"
            self.wfile.write(self.head(200, "application/x-ndjson", length) + body)
            return True
        if "shape" in r.words:
            return self.shaped(r, r.words["shape"])
        if status := self.failure(r):
            self.send(status, error_body(r, status))
        elif r.streamed and r.route in STREAMED:
            return self.stream(r, STREAMED[r.route](r))
        else:
            answer = PLAIN[r.route](r)
            if "nousage" in r.words and isinstance(answer, dict):
                answer.pop("usage", None)
            self.send(200, answer)
        return True

    def shaped(self, r: Request, shape: str) -> bool:
        """Answer in an unusual shape, with an id of the request in the head.

        A shape may be the answer itself: a JSON object, a list of the events of a stream, or a page.
        """
        route, dropped = "gemini" if "enerateContent" in r.route else r.route, False
        if shape.startswith("{"):
            body, kind = shape.encode(), "application/json"
        elif shape.startswith("["):
            told = json.loads(shape)
            if dropped := told[-1:] == ["drop"]:
                told.pop()
            body, kind = provider_shapes.events(told), "text/event-stream"
            if route.endswith("converse-stream"):
                body, kind = provider_shapes.aws_events(told), "application/vnd.amazon.eventstream"
        elif shape.startswith("<"):
            body, kind = shape.encode(), "text/html"
        elif shape.startswith("data:"):
            body, kind = shape.replace("|", "\n\n").encode(), "text/plain"
        elif r.streamed or "stream" in r.route:
            body, kind = provider_shapes.sse(route, shape), "text/event-stream"
        else:
            body, kind = (
                json.dumps(provider_shapes.whole(route, shape)).encode(),
                "application/json",
            )
        headers = (
            f"Content-Length: {len(body) + 1_000 * dropped}\r\n"
            f"x-request-id: req-{shape if shape.isalnum() else 'given'}"
        )
        self.wfile.write(self.head(200, kind, headers) + body)
        return not dropped

    def failure(self, r: Request) -> int | None:
        if r.route not in PLAIN:
            return 404
        if r.model.rpartition("/")[2] == "bad":
            return 500
        if "policy400" in r.words:
            return 400
        if "flaky" in r.words:
            times, _, key = r.words["flaky"].partition("-")
            return 500 if self.server.log.attempt(key) <= int(times) else None
        return int(r.words["fail"]) if "fail" in r.words else None

    def send(self, status: int, answer: Json | bytes) -> None:
        kind = "audio/mpeg" if isinstance(answer, bytes) else "application/json"
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.wfile.write(self.head(status, kind, f"Content-Length: {len(data)}") + data)

    def head(self, status: int, kind: str, framing: str) -> bytes:
        """Head of an answer; the openai client retries after a millisecond, not half a second."""
        hint = "retry-after-ms: 1\r\n" if status >= 429 else ""
        line = f"HTTP/1.1 {status} {'OK' if status == 200 else 'As told'}"
        return f"{line}\r\nContent-Type: {kind}\r\n{framing}\r\n{hint}\r\n".encode()

    def stream(self, r: Request, stream: Stream) -> bool:
        self.wfile.write(self.head(200, "text/event-stream", "Transfer-Encoding: chunked"))
        if stream.head:
            self.chunk(stream.head)
        for delta in stream.deltas[:2]:
            self.chunk(delta)
        if "midslow" in r.words:
            self.server.stopping.wait(float(r.words["midslow"] or 1))
        if "middrop" in r.words:
            return False
        if "miderr" in r.words:
            self.chunk(stream.error, last=True)
            return True
        for delta in stream.deltas[2:]:
            self.chunk(delta)
        self.chunk(stream.tail, last=True)
        return True

    def chunk(self, data: bytes, *, last: bool = False) -> None:
        self.wfile.write(b"%x\r\n%s\r\n%s" % (len(data), data, b"0\r\n\r\n" if last else b""))


class _Log:
    """The requests received, and the attempts of every flaky key."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: list[Logged] = []
        self._attempts: Counter[str] = Counter()

    def add(self, r: Request) -> None:
        with self._lock:
            self._requests.append(Logged(r.route, r.model, r.text))

    def attempt(self, key: str) -> int:
        with self._lock:
            self._attempts[key] += 1
            return self._attempts[key]

    def requests(self) -> list[Logged]:
        with self._lock:
            return list(self._requests)

    def stats(self) -> Json:
        seen = self.requests()
        routes = Counter(r.route for r in seen)
        return {"total": len(seen), "routes": routes, "requests": seen}


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, port: int) -> None:
        self.log = _Log()
        self.stopping = threading.Event()
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def stop(self) -> None:
        self.stopping.set()
        self.shutdown()
        self.server_close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Counting:
    """What a provider tells of itself, wherever it runs."""

    base_url: str

    @property
    def requests(self) -> list[Logged]:
        """Every request so far, in the order of arrival."""
        raise NotImplementedError

    def count(self, text: str) -> int:
        """Tell how many requests had a text that contains this one."""
        return sum(text in request.text for request in self.requests)


class Provider(_Counting):
    """A provider in a thread of this process."""

    def __init__(self, port: int = 0) -> None:
        self._port = port

    def __enter__(self) -> Provider:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> Provider:
        self._server = _Server(self._port)
        self.base_url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def stop(self) -> None:
        self._server.stop()

    @property
    def requests(self) -> list[Logged]:
        return self._server.log.requests()

    @staticmethod
    @contextlib.contextmanager
    def start_process(port: int = 0) -> Iterator[ProviderProcess]:
        """Run a provider in a process of its own, which does not share our GIL."""
        provider = ProviderProcess(port)
        try:
            yield provider
        finally:
            provider.stop()


class ProviderProcess(_Counting):
    """A provider in a process of its own; should we die, its stdin closes and it ends too."""

    def __init__(self, port: int = 0) -> None:
        command = [sys.executable, str(Path(__file__)), "--port", str(port)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self.base_url = self._process.stdout.readline().decode().strip()

    @property
    def requests(self) -> list[Logged]:
        with urllib.request.urlopen(f"{self.base_url}/_stats") as answer:
            return [Logged(*entry) for entry in json.load(answer)["requests"]]

    def stop(self) -> None:
        self._process.terminate()
        self._process.communicate()


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve the loopback provider.")
    parser.add_argument("--port", type=int, default=0)
    with Provider(parser.parse_args().port) as provider, contextlib.suppress(KeyboardInterrupt):
        print(provider.base_url, flush=True)
        stdin = os.fstat(0).st_mode
        if sys.stdin.isatty() or stat.S_ISFIFO(stdin) or stat.S_ISSOCK(stdin):
            sys.stdin.buffer.read()
        else:
            signal.pause()  # started in the background, with no stdin that could close


if __name__ == "__main__":
    main()
