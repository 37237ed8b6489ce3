"""The web page and its API: HTTP requests with an image are answered with its mask."""
