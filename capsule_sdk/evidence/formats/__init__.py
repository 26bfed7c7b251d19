"""Formats: how records lie in files, as they are stored.

Nothing of a record is judged here; that a file is whole and can be read in one way only is.
"""
