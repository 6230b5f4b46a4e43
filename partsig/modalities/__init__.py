"""What distinguishes signals from images: the only place that names both."""
