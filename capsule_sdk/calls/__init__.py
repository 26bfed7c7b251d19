"""Calls: what is the same in a call to any model, whoever made it. Knows wire shapes, no framework.

``prompts`` reads the prompt of a call, ``question`` says what was asked for, ``hashing`` how that is hashed
(docs/hashes.md). Pure: values in, data out.
"""
