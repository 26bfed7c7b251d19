"""A small agent whose every step becomes evidence: run it, read the tree, check it yourself.

A research assistant works out how many solar panels the town library needs. It plans, looks up
facts, calculates, explains, and has its summary approved by a person. Five decorators, two
scopes and one line for LiteLLM turn that into a chain of signed capsules.

    python examples/local_agent.py                                  # a local model, offline
    CAPSULED_MODEL=gpt-4o-mini python examples/local_agent.py       # or any model of LiteLLM
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, count
from pathlib import Path

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # no price list from the network

import litellm
from audit import audit
from local_model import MODEL_NAME, LocalModelError, local_model

from capsule_sdk import CapsuleLogger, capsule_scope, capsuled, configure, current_task, shutdown

QUESTION = "How many solar panels does the town library need?"
FACTS = {"library use": 30, "panel yield": 1.5, "roof places": 24}  # kWh a day, twice; panels
LLM_CALLS = 3  # what the agent below makes: plan, explanation, announcement
LLM: dict[str, str | None] = {}  # the model that main() chose, as LiteLLM's arguments


# -- the agent ---------------------------------------------------------------------------------


@capsuled(agent_id="research-assistant", domain="energy")
async def research_assistant(question: str) -> str:
    """Answer the question; everything in here hangs under this task's capsule."""
    await make_plan(question)

    with capsule_scope("gather facts"):
        use, gives, places = (look_up(name) for name in FACTS)
        panels = divide(use, gives)

    current_task().reason(
        f"The roof has places for {places} panels; {panels} make what the library uses.",
        options=["cover the whole use", "cover half of it"],
        selected="cover the whole use" if panels <= places else "cover half of it",
        reasoning="Take as much as the roof can carry.",
        confidence=0.9,
    )

    finding = (
        f"The town library uses {use} kWh of electricity a day. One solar panel gives {gives} kWh "
        f"a day. So {panels} solar panels cover the library's needs."
    )
    await explain(finding)

    # Ana has read the finding and said yes: what runs in here runs under her authority.
    with capsule_scope("approve summary", authority="human-approved", approver="ana@example.com"):
        return await ask(f"Write a one-sentence announcement for the town's newsletter: {finding}")


@capsuled
async def make_plan(question: str) -> str:
    """Let the model think aloud; one LLM capsule under this step."""
    return await ask(f"In two short sentences: what do we need to know to answer this? {question}")


@capsuled
async def explain(finding: str) -> str:
    """Stream the explanation to the terminal; the capsule has the whole text."""
    stream = await litellm.acompletion(
        messages=user_says(f"Explain in two sentences: {finding}"),
        stream=True,
        stream_options={"include_usage": True},
        **LLM,
    )
    said = []
    async for chunk in stream:
        said += [choice.delta.content or "" for choice in chunk.choices]  # the last has none
        print(said[-1], end="", flush=True)
    print()
    return "".join(said)


@capsuled(capsule_type="tool")
def look_up(name: str) -> float:
    """Look a figure up; a tool's capsule holds its arguments and its result."""
    return FACTS[name]


@capsuled(capsule_type="tool")
def divide(total: float, by: float) -> int:
    """Divide, rounding up."""
    return int(-(-total // by))


async def ask(text: str) -> str:
    """Ask the model. Nothing to see here: CapsuleLogger knows under which task this runs."""
    response = await litellm.acompletion(messages=user_says(text), **LLM)
    return response.choices[0].message.content or ""


def user_says(text: str) -> list[dict[str, str]]:
    """Return the messages of a conversation that has just begun."""
    return [{"role": "user", "content": text}]


# -- run it, then look at it as an auditor does -------------------------------------------------


def main() -> int:
    """Run the agent on a chain of its own and verify what it left; 0 if all of it holds."""
    parser = argparse.ArgumentParser(description="A small agent whose every step becomes evidence.")
    parser.add_argument("--data", type=Path, default=Path("capsuled-demo"), metavar="DIR")
    where = parser.parse_args().data

    with chosen_model() as model:
        LLM.update(model)
        data = fresh(where)
        os.environ["QUANTUMPIPES_DATA_DIR"] = str(data.resolve())  # the signing key is made here
        configure(url=data / "capsules.db")
        litellm.callbacks = [CapsuleLogger()]

        print(f"Question: {QUESTION}\n")
        answer = asyncio.run(research_assistant(QUESTION))
    unsealed = shutdown()
    print(f"\nAnswer: {answer}\n")

    capsules, verified = audit(data)
    recorded = sum(capsule["type"] == "chat" for capsule in capsules)
    print(f"\n{LLM_CALLS} LLM calls made, {recorded} recorded, {unsealed} records not sealed.")
    return 0 if verified and recorded == LLM_CALLS and not unsealed else 1


@contextmanager
def chosen_model() -> Iterator[dict[str, str | None]]:
    """Use the model that CAPSULED_MODEL names (at CAPSULED_API_BASE), else the local one."""
    if name := os.environ.get("CAPSULED_MODEL"):
        yield {"model": name, "api_base": os.environ.get("CAPSULED_API_BASE")}
    else:
        with local_model() as base_url:
            yield {"model": f"openai/{MODEL_NAME}", "api_base": base_url, "api_key": "none"}


def fresh(directory: Path) -> Path:
    """Make the directory, or, where it exists, the first of DIR-2, DIR-3, … that does not."""
    numbered = (directory.with_name(f"{directory.name}-{n}") for n in count(2))
    new = next(name for name in chain([directory], numbered) if not name.exists())
    new.mkdir(parents=True)
    return new


if __name__ == "__main__":
    try:
        sys.exit(main())
    except LocalModelError as missing:
        sys.exit(str(missing))
