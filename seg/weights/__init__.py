"""Weights: where they come from, how they are read into a network, and the file format of this project."""
