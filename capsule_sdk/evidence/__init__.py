"""Evidence: reading a chain, never writing it."""
