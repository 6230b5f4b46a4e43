"""How a run is trained, for any modality and task."""
