"""It does not even load."""

raise RuntimeError("it was written for another version")
