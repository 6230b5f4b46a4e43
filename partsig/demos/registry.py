"""The demonstrations by name: the places of their functions and settings, and whose is whose."""

DEMOS = {
    "excerpts": "partsig.demos.excerpts:run_demo",
    "digits": "partsig.demos.digits:run_demo",
    "parts": "partsig.demos.parts:run_demo",
    "discovery": "partsig.demos.discovery:run_demo",
    "night": "partsig.demos.nights:run_demo",
}
# What may be changed of each: the places of their settings.
SETTINGS = {
    "excerpts": "partsig.demos.settings:DemoConfig",
    "digits": "partsig.demos.settings:ImageDemoConfig",
    "parts": "partsig.demos.settings:PartsDemoConfig",
    "discovery": "partsig.demos.settings:DiscoveryDemoConfig",
    "night": "partsig.demos.settings:NightDemoConfig",
}
# The demonstration of a modality.
OF_MODALITY = {"eeg": "excerpts", "image": "digits"}
