"""Figures of results, whatever the modality where that makes no difference."""
