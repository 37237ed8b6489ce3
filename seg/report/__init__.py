"""An evaluation as a page to look at: one HTML file that needs nothing beside it."""
