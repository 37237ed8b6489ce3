"""Whose weights can be read, and the report of what matched."""
