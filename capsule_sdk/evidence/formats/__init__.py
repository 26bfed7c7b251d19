"""Formats: how records lie in files, as they are stored. Read and written, never judged."""
