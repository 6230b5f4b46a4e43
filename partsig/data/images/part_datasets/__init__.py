"""Published data sets of images whose parts are marked, each read in its official layout."""
