"""Evidence: reading a chain, never writing it.

formats      how records lie in files
sources      whatever holds a chain, opened for reading; selection: some of its records
showing      trees, sums and single records, for people
verifying    the verdict
exporting    files for somebody else
status       whether all that was recorded is in the chain
"""
