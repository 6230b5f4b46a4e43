"""How predictions are judged: agreement, calibration, intervals. Numbers in, numbers out."""
