"""Verifying: records, chains, tasks and checkpoints judged, and what was found."""
