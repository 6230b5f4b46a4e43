"""Hypnograms in the files people have them in: what is scored when, in the scorer's own time.

``reading`` reads a file of any format: EDF+ annotations (``annotations``), tables with onsets (CSV,
TSV, BIDS ``_events.tsv``) and lists of one stage per epoch (plain text, CSV, YASA's export,
Compumedics' ``.txt``; both ``tables``), and the XML of the National Sleep Research Resource and of
Profusion (``xml``). ``alignment`` tells where the stages lie in a recording, ``stages`` what they
are, and ``settings`` what the user says of all this.
"""
