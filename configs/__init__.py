"""Configurations by name: ``--config part`` reads ``part.yaml`` of this folder."""
