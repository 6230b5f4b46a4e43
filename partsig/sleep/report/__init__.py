"""The parts of a report on agreement with a scorer."""
