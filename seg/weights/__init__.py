"""Weights: sources, loading into a network, and the file format of this project."""
