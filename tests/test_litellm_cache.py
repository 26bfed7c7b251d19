"""LiteLLM's cache: a hit is a call like any other, one success in its caller's scope, that cost nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import litellm
import pytest
from litellm_support import LITELLM_NOISE, expect, run, usage

from capsule_sdk import capsule_scope

pytest_plugins = ["litellm_support"]
pytestmark = LITELLM_NOISE

COST = "0.000045"


@pytest.fixture(params=["told", "untold"], autouse=True)
def _cache(request: pytest.FixtureRequest, llm: Any) -> None:
    """A cache; LiteLLM reports a sync hit only where the string "cache" is among its callbacks."""
    litellm.cache = litellm.Cache(type="local")
    if request.param == "untold":
        for name in ("input_callback", "success_callback", "_async_success_callback"):
            setattr(litellm, name, [c for c in getattr(litellm, name) if c != "cache"])


async def until_cached(entries: int = 1) -> None:
    """Wait for LiteLLM to write async answers into its cache, which it does in the background."""
    async with asyncio.timeout(5):
        while litellm.cache is None or len(litellm.cache.cache.cache_dict) < entries:
            await asyncio.sleep(0.01)


def read_to_the_end(stream: Any) -> str:
    """Read a sync stream, and wait for LiteLLM to write it into its cache, in a thread of its own."""
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    asyncio.run(until_cached())
    return text


def cached(capsule: Any) -> bool:
    return capsule["context"]["environment"].get("cache_hit") is True


def test_a_sync_hit(chain: Any, llm: Any) -> None:
    for scope in ("miss", "hit", "other"):
        with capsule_scope(scope):
            llm.ask("hi" if scope != "other" else "ho")

    miss, hit, other = expect(
        chain, [("miss", "success"), ("hit", "success"), ("other", "success")]
    )
    assert [cached(c) for c in (miss, hit, other)] == [False, True, False]
    assert [usage(c) for c in (miss, hit, other)] == [(10, 2, COST), (10, 2, "0"), (10, 2, COST)]
    assert hit["outcome"]["result"] == "hello world!"
    assert llm.provider.count("hi") >= 1


def test_an_async_hit(chain: Any, llm: Any) -> None:
    async def main() -> None:
        with capsule_scope("miss"):
            await llm.aask()
        await until_cached()
        with capsule_scope("hit"):
            await llm.aask()

    run(main)
    miss, hit = expect(chain, [("miss", "success"), ("hit", "success")])
    assert [cached(c) for c in (miss, hit)] == [False, True]
    assert usage(hit) == (10, 2, "0")


def test_a_sync_stream_from_the_cache(chain: Any, llm: Any) -> None:
    read_to_the_end(llm.ask(stream=True))
    with capsule_scope("hit"):
        stream = llm.ask(stream=True)
    assert read_to_the_end(stream) == "hello world!"

    miss, hit = expect(chain, [(None, "success"), ("hit", "success")])
    assert (cached(miss), cached(hit)) == (False, True)
    assert hit["outcome"]["result"] == "hello world!"
    # nobody says whether LiteLLM had it from the provider, or had guessed
    assert usage(hit) == (None, None, "0")


def test_an_async_stream_from_the_cache(chain: Any, llm: Any) -> None:
    async def main() -> None:
        async for _ in await llm.aask(stream=True):
            pass
        await until_cached()
        with capsule_scope("hit"):
            stream = await llm.aask(stream=True)
        pieces = [chunk.choices[0].delta.content or "" async for chunk in stream]
        assert "".join(pieces) == "hello world!"

    run(main)
    _, hit = expect(chain, [(None, "success"), ("hit", "success")])
    assert cached(hit)
    assert usage(hit)[2] == "0"


def test_a_stream_from_the_cache_that_is_abandoned(chain: Any, llm: Any) -> None:
    read_to_the_end(llm.ask(stream=True))
    with capsule_scope("hit"):
        next(llm.ask(stream=True))
    _, hit = expect(chain, [(None, "success"), ("hit", "partial")], within=2)
    assert cached(hit)


def test_sync_embeddings(chain: Any, llm: Any) -> None:
    for scope in ("miss", "hit"):
        with capsule_scope(scope):
            litellm.embedding("openai/text-embedding-3-small", input=["a", "b"], **llm.at)
    _, hit = expect(chain, [("miss", "success"), ("hit", "success")])
    assert cached(hit)
    assert usage(hit)[2] == "0"


def test_async_embeddings_found_in_part_and_as_a_whole(chain: Any, llm: Any) -> None:
    async def embed(scope: str, *texts: str) -> Any:
        with capsule_scope(scope):
            return await litellm.aembedding(
                "openai/text-embedding-3-small", input=list(texts), **llm.at
            )

    async def main() -> None:
        await embed("miss", "a")
        await until_cached()
        assert len((await embed("part", "a", "b")).data) == 2
        await until_cached(2)
        assert len((await embed("whole", "a", "b")).data) == 2

    run(main)
    miss, part, whole = expect(
        chain, [("miss", "success"), ("part", "success"), ("whole", "success")]
    )
    assert [cached(c) for c in (miss, part, whole)] == [False, True, True]
    assert usage(miss)[2] == "0.0000002"
    # LiteLLM adds up the tokens of both, and does not say which of them were paid for this time
    assert usage(part) == (20, 0, None)
    assert part["context"]["environment"]["attempts"] == 1
    assert usage(whole)[2] == "0"
    assert part["outcome"]["result"] == {"embeddings": 2, "dimensions": 3}
