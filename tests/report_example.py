"""A day at a trading desk, as a chain: several agents, models, prices, approvals, and things that go wrong."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from qp_capsule import (
    AuthoritySection,
    Capsule,
    CapsuleType,
    ContextSection,
    ExecutionSection,
    OutcomeSection,
    ReasoningOption,
    ReasoningSection,
    ToolCall,
    TriggerSection,
)

from capsule_sdk.records.task import children_digest

BEGAN = datetime(2026, 3, 2, 8, 0, 4, 120_000, tzinfo=UTC)
PRICES = {  # dollars a million tokens
    "gpt-4o": ("2.50", "10.00"),
    "claude-sonnet-4-5": ("3.00", "15.00"),
    "gpt-4o-mini": ("0.15", "0.60"),
    "mistral-large-latest": ("2.00", "6.00"),
}
ISSUERS = (
    "Norddeutsche Wind",
    "Aster Pharma",
    "Kestrel Logistics",
    "Solent Water",
    "Meridian Rail",
)


class Day:
    """The capsules of the day, in the order in which they ended; the same every time but for their seals."""

    def __init__(self, seed: int = 7) -> None:
        self.random = random.Random(seed)
        self.capsules: list[Capsule] = []
        self.now = BEGAN

    def id(self) -> UUID:
        return UUID(int=self.random.getrandbits(128), version=4)

    def call(
        self, parent: UUID, agent: str, model: str, request: str, result: str, **fields: Any
    ) -> UUID:
        """One LLM call through LiteLLM, as `capsule_sdk.records.capsules` writes it."""
        began, key = self.now, self.id()
        duration = self.random.randint(320, 6_400)
        self.now += timedelta(milliseconds=duration + self.random.randint(5, 60))
        tokens_in, tokens_out = self.random.randint(240, 5_200), self.random.randint(40, 900)
        error = fields.pop("error", None)
        status = fields.pop("status", "failure" if error else "success")
        known = status == "success"
        price_in, price_out = map(Decimal, PRICES[model])
        cost = str((tokens_in * price_in + tokens_out * price_out) / 1_000_000) if known else None
        usage = {
            "tokens_in": tokens_in if known else None,
            "tokens_out": tokens_out if known else None,
        }
        self.capsules.append(
            Capsule(
                id=key,
                type=CapsuleType.CHAT,
                domain=fields.pop("domain", "finance"),
                parent_id=parent,
                trigger=TriggerSection(
                    type="agent", source="litellm", timestamp=began, request=request
                ),
                context=ContextSection(
                    agent_id=agent,
                    session_id="desk-2026-03-02",
                    environment={"model": model, "call_type": "acompletion", "stream": False},
                ),
                reasoning=ReasoningSection(
                    analysis="LLM acompletion via LiteLLM",
                    selected_option="acompletion",
                    reasoning=f"Routed to {model}",
                    model=model,
                    prompt_hash=f"{self.random.getrandbits(256):064x}",
                ),
                authority=fields.pop("authority", AuthoritySection()),
                execution=ExecutionSection(
                    tool_calls=[
                        ToolCall(
                            tool="litellm.acompletion",
                            arguments={"model": model, "message_count": 3},
                            result=result if known else None,
                            success=known,
                            duration_ms=duration,
                            error=error,
                        )
                    ],
                    duration_ms=duration,
                    resources_used={**usage, "cost": cost},
                ),
                outcome=OutcomeSection(
                    status=status,
                    result=result if known else None,
                    summary=f"{'Completed' if known else 'Failed'}: {model}",
                    error=error,
                    metrics={**usage, "latency_ms": duration, "cost_usd": cost},
                ),
            )
        )
        return key

    def task(
        self, key: UUID, name: str, agent: str, children: list[UUID], began: datetime, **fields: Any
    ) -> UUID:
        """Seal a task after its children, with its commitment to them."""
        duration = int((self.now - began) / timedelta(milliseconds=1)) + 3
        commitment = {
            "started": fields.pop("started", len(children)),
            "ended": len(children),
            "digest": fields.pop("digest", children_digest(children)),
        }
        self.capsules.append(
            Capsule(
                id=key,
                type=fields.pop("type", CapsuleType.AGENT),
                domain=fields.pop("domain", "finance"),
                parent_id=fields.pop("parent", None),
                trigger=TriggerSection(
                    source=name, timestamp=began, request=fields.pop("request", name)
                ),
                context=ContextSection(
                    agent_id=agent, session_id="desk-2026-03-02", environment={"host": "desk-3"}
                ),
                reasoning=fields.pop("reasoning", ReasoningSection()),
                authority=fields.pop("authority", AuthoritySection()),
                execution=ExecutionSection(
                    tool_calls=fields.pop("tools", []), duration_ms=duration
                ),
                outcome=OutcomeSection(
                    metrics={"children": commitment}, **{"status": "success", **fields}
                ),
            )
        )
        return key

    def rebalance(self, issuer: str, number: int) -> None:
        """Research, a proposal, an approval by a person, an order."""
        key, began = self.id(), self.now
        children = [self.research(key, issuer, number), self.propose(key, issuer, number)]
        if number % 3 != 2:
            children.append(self.approve(key, issuer, number))
        amount = self.random.randint(4, 90) * 500
        self.task(
            key,
            "desk.rebalance",
            "trading-bot",
            children,
            began,
            type=CapsuleType.WORKFLOW,
            request=f"Rebalance the position in {issuer}",
            result=f"Position in {issuer} set to {amount:,} shares",
            summary=f"Rebalanced {issuer} ({len(children)} steps)",
            side_effects=[f"order A-{1000 + number} sent to the exchange"],
        )

    def research(self, parent: UUID, issuer: str, number: int) -> UUID:
        key, began = self.id(), self.now
        tool = self.id()
        self.now += timedelta(milliseconds=240)
        self.task(
            tool,
            "market.quotes",
            "research-agent",
            [],
            began,
            parent=key,
            type=CapsuleType.TOOL,
            request=f"quotes for {issuer}",
            tools=[
                ToolCall(
                    tool="market.quotes",
                    arguments={"issuer": issuer},
                    result={"rows": 30},
                    success=True,
                )
            ],
        )
        children = [tool]
        if number % 5 == 3:
            limit = "RateLimitError: 429, retry after 12 s"
            children.append(
                self.call(
                    key,
                    "research-agent",
                    "mistral-large-latest",
                    f"News on {issuer}",
                    "",
                    error=limit,
                )
            )
        children.append(
            self.call(
                key,
                "research-agent",
                "gpt-4o-mini",
                f"Summarise the news on {issuer} of the last 30 days.",
                f"{issuer}: guidance confirmed, margins stable, one rating change (BBB to BBB+).",
            )
        )
        return self.task(
            key,
            "research.brief",
            "research-agent",
            children,
            began,
            parent=parent,
            request=f"Brief on {issuer}",
        )

    def propose(self, parent: UUID, issuer: str, number: int) -> UUID:
        key, began = self.id(), self.now
        model = ("gpt-4o", "claude-sonnet-4-5")[number % 2]
        children = [
            self.call(
                key,
                "trading-bot",
                model,
                f"Propose a target weight for {issuer}.",
                "2.4 %, in two steps.",
            ),
            self.call(
                key,
                "trading-bot",
                "claude-sonnet-4-5",
                f"Argue against the proposal for {issuer}.",
                "Liquidity is thin before noon.",
            ),
        ]
        options = [
            ReasoningOption(
                id="opt_0",
                description="2.4 % in two steps",
                pros=["less slippage"],
                feasibility=0.9,
                selected=True,
            ),
            ReasoningOption(
                id="opt_1", description="2.4 % at once", cons=["thin book"], feasibility=0.6
            ),
        ]
        reasoning = ReasoningSection(
            analysis="Two ways to reach the target weight.",
            options=options,
            selected_option="opt_0",
            reasoning="The book is thin before noon.",
            confidence=0.82,
        )
        authority = AuthoritySection(type="policy", policy_reference="risk-limits-7")
        return self.task(
            key,
            "trading.propose",
            "trading-bot",
            children,
            began,
            parent=parent,
            reasoning=reasoning,
            authority=authority,
            request=f"Propose for {issuer}",
        )

    def approve(self, parent: UUID, issuer: str, number: int) -> UUID:
        key, began = self.id(), self.now
        self.now += timedelta(minutes=self.random.randint(1, 6))
        authority = AuthoritySection(
            type="human_approved", approver=("ana@example.com", "jon@example.com")[number % 2]
        )
        child = self.call(
            key,
            "trading-bot",
            "gpt-4o",
            f"Place the order for {issuer}.",
            "Order text ready.",
            authority=authority,
        )
        return self.task(
            key,
            "approve trade",
            "trading-bot",
            [child],
            began,
            parent=parent,
            authority=authority,
            request=f"Approve the order for {issuer}",
        )

    def screening(self, issuer: str, *, blocked: bool) -> None:
        """Compliance looks at an issuer, and may stop there."""
        key, began = self.id(), self.now
        authority = AuthoritySection(type="escalated", escalation_reason="issuer on the watch list")
        child = self.call(
            key,
            "compliance-agent",
            "gpt-4o",
            f"Screen {issuer} against the watch list.",
            "One possible match.",
            authority=authority,
            domain="compliance",
        )
        self.task(
            key,
            "compliance.screen",
            "compliance-agent",
            [child],
            began,
            authority=authority,
            domain="compliance",
            request=f"Screen {issuer}",
            status="blocked" if blocked else "success",
            error="stopped by rule watch-list-2" if blocked else None,
        )


def example_day(rounds: int = 12) -> Iterator[Capsule]:
    """Yield the unsealed capsules of a day, children before their tasks."""
    day = Day()
    for number in range(rounds):
        issuer = ISSUERS[number % len(ISSUERS)]
        if number % 4 == 1:
            day.screening(issuer, blocked=number == 5)
        day.rebalance(issuer, number)
        day.now += timedelta(minutes=day.random.randint(4, 55))
    yield from day.capsules
