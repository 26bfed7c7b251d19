"""Scopes: what code runs under, and how the user says so.

`node` is the chain of scopes in the one ContextVar, `scope` is ``capsule_scope``, `decorator` is
``@capsuled``; `options` are those that both take. `functions` makes the decorated function, which `unseen`
hides from looks at the stack; `recipe` is one decoration read, `runs` opens and closes the task of one call,
and `depth` does so near the recursion limit. `driving` keeps the scope of code that runs in steps: `steps`
drives iterators that are no generators, `bodies` finds those in web responses. `abandoned` sees to what
Python closes by itself. `confirming` waits in strict mode.
"""
