"""Recordings in, continuous stores out; splits by subject; windows for training."""
