"""The demonstrations by name: the places of their functions, and whose modality is whose."""

DEMOS = {
    "excerpts": "partsig.demos.excerpts:run_demo",
    "digits": "partsig.demos.digits:run_demo",
}
# The demonstration of a modality.
OF_MODALITY = {"eeg": "excerpts", "image": "digits"}
