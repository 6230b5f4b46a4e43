"""What may be wrong with a plug-in."""
