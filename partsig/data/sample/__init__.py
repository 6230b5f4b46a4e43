"""Real signal that ships with the package; see ATTRIBUTION.md."""
