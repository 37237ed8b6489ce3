"""Masks of images, and pictures of masks."""
