"""Recording: takes records when they begin and end, and answers for them until they are in the chain.

`recorder` is the callers' side, `safekeeping` what is written of a record before the user's code goes on
(`whereabouts` where, `telling` what the log hears of it), `line` the order in which records wait (`holding`
what they wait for), `rounds` the writer's work, `outbox` the way into the chain, `checkpointing` what is
signed of it, `recovery` what other processes have left behind, `forking` what a fork means, `stats` the
figures, `default` the one recorder of the process and `configure`. `libraries` and `writing` are where
imports and the writer begin: no signal handler runs there.
"""
