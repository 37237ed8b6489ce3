"""The page and its API: an image in, its mask out, over HTTP."""
