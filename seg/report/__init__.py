"""Reports of evaluations: one self-contained HTML file."""
