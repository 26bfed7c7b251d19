"""The journal: local files that keep records safe until they are in the chain.

`location` says where journals lie, `temporary` where else if a directory fails, `files` whose they are,
`contents` what lies in one. `frames` is how a line is written and read, `journal` the one that this process
has, `unwritten` what could not be written there, `backlog` the queue on disk of capsules that wait for the
store, `leftovers` the journals of processes that are no more. It knows bytes and JSON; what they mean is in
`capsule_sdk.records.state`.
"""
