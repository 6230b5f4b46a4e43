"""One module per kind of raw recording."""
