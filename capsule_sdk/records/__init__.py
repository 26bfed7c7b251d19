"""Records: what happened, from its start until it is a capsule. Data; no clock but the start's, no I/O.

A `record.Record` is a `task.Task` of the user's code or a `call.LLMCall`. It belongs to an
`attribution.Attribution` under an `authority.Authority`, adds `totals.Totals` to the task above it, and
`capsules` turns it into a capsule. `state` writes it down for the journal and makes it anew from there,
`related` finds the notes, causes and groups of the exception that ended it.
"""
