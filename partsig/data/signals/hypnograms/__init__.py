"""Hypnograms in the files people have them in: what is scored when, in the scorer's own time.

``reading`` reads a file of any format: EDF+ annotations (``annotations``), tables with onsets (CSV,
TSV, BIDS) and lists of one stage per epoch (``tables``; ``columns`` are found by their names), the
XML of the National Sleep Research Resource, of Profusion (``xml``) and of Philips (``rml``), and
what REMlogic, DOMINO (``vendors``), Luna (``luna``), Elan and visbrain (``visbrain``), MNE
(``mne_annotations``) and the Dreem Open Datasets (``json_stages``) write. A text format is one
entry of ``reading.TEXTS``. ``scorers`` chooses among several, or takes the vote. ``alignment``
tells where the stages lie in a recording, ``stages`` what they are, and ``settings`` what the user
says of all this.
"""
