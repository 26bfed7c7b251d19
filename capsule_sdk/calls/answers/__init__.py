"""Answers: the answers of models as providers send them, whole or in pieces -> what is sealed of them.

Knows wire formats (Chat Completions, Responses, Messages, generateContent and what else providers answer),
and no client library: an adapter hands over what its library returned or yielded. Pure: no I/O, no clock.

``reading`` takes objects apart, ``choice`` holds an answer in our own words, ``blocks`` and the modules of
the wire formats translate into it, ``growing`` and ``stream`` put whole answers together from pieces
(``events`` and ``frames`` for raw ones), ``whole`` reads any of them, ``usage`` and ``verdict`` take tokens
and status. ``plain`` is the short way for an answer that is one text, ``other`` reads answers that are no
conversation.

The rule of the house: a format's module *takes* the entries that it understands; what is left over is sealed
with its name, bounded and redacted. So a shape that does not exist today is kept, and never becomes an empty
text.
"""
