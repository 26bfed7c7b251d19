"""Recording: takes records when they begin and end, and answers for them until they are in the chain.

`recorder` is the callers' side, `rounds` the writer's work, `holding` the order of the line, `outbox` the way
into the chain, `forking` what a fork means, `default` the one recorder of the process and `configure`.
"""
