"""The journal: local files that keep records safe until they are in the chain.

`frames` is how a line of it is written and read, `files` where journals lie and whose they are, `journal`
the one that this process writes, `unwritten` what could not be written there, `backlog` the queue on disk of
capsules that wait for the store, `leftovers` the journals of processes that are no more. It knows bytes and
JSON; what they mean is in `capsule_sdk.records.state`.
"""
