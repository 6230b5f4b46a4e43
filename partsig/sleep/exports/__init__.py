"""A staged recording as files that others open: CSV, EDF+, BIDS events, JSON; and as objects.

Sources: EDF+ (Kemp and Olivan 2003, doi 10.1016/S1388-2457(03)00123-8) and its standard texts,
https://www.edfplus.info/specs/edftexts.html; BIDS, "Events", doi 10.1038/sdata.2016.44.
"""
