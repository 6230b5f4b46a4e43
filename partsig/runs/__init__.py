"""A run directory, typed, and what turns a path into a model."""
