"""Campaigns: attacks by chance, longer than a test run has time for.

    PYTHONPATH=tests python -m campaigns --seconds 120      all of them
    PYTHONPATH=tests python -m campaigns poison --seed 7    one of them, with the chances of an earlier run

Each prints its seed and its figures, stops after ``--seconds``, and exits 1 with the seed of the round that
broke a promise. The tests run a slice of each (`test_campaigns`).
"""
