"""Decorated callables that other processes import; nothing else, so that they start fast."""

from __future__ import annotations

from capsule_sdk import capsuled


@capsuled
def square(number: int) -> int:
    return number * number


class Adder:
    def __init__(self, base: int) -> None:
        self.base = base

    @capsuled
    def plus(self, number: int) -> int:
        return self.base + number
