"""Recordings: readers, filters, labels, the store of signals and windows of it."""
