"""Calls: the part of recording that is the same for a call to any model, through whatever library.

``question`` turns the arguments of a call into the sealed question: ``parts`` sorts them, ``prompts`` reads
the prompt, ``schemas`` the answer's format, ``hashing`` hashes it all (docs/hashes.md), ``conversation``
seals the messages, and ``memory`` knows which of them an earlier capsule holds. The package `answers` reads
what the model answers, ``objects`` looks into foreign objects for both.

Knows wire formats, and no framework. All of it but ``memory`` is pure: values in, data out.
"""
