"""Scopes: what code runs under, and how the user says so.

`node` is the chain of scopes in the one ContextVar, `scope` is ``capsule_scope``, `decorator` is ``@capsuled``,
`recipe` what one decoration says, `options` what both take, `driving` how code that runs in steps keeps its
scope, `bodies` which web responses have code of the user's still to run, `steps` how iterators that are no
generators are driven, `confirming` who waits in strict mode, and how.
"""
