"""The speed of trio_mq beside its peers, as one command.

    python -m tests.benchmarks               the rows that carry floors, in some minutes
    python -m tests.benchmarks --full        everything
    python -m tests.benchmarks.hot_paths     the single tricks of the hot path, in nanoseconds

A figure is the median of at least nine interleaved rounds in which every contestant of a row runs once, in an order
that is reversed each time; a round gives one ratio. Two fresh processes a run, one core each (and where a row has
many, any core), at least a second of traffic. What each row compares and which ratio is a floor stands in `_rows`,
`_rpc_rows` and `_multicast_rows`, and nowhere else.
"""
