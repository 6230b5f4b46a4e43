"""The verbs: each reads a directory and writes a directory that describes itself."""
