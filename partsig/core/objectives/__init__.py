"""Pretraining objectives: each samples, crops, encodes, predicts and gives a loss."""
