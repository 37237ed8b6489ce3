"""The pages of the service: the one at `/`, and the API documentation at `/docs`."""

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse

PAGE = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/draw.js": ("draw.js", "text/javascript"),
    "/page.js": ("page.js", "text/javascript"),
    "/zip.js": ("zip.js", "text/javascript"),
}
DARK = """
@media (prefers-color-scheme: dark) {
  html { background: #12161c; }
  .swagger-ui { filter: invert(0.92) hue-rotate(180deg); }
  .swagger-ui .highlight-code, .swagger-ui .microlight { filter: invert(1) hue-rotate(180deg); }
}
"""
"""Swagger's page has no dark colors: its colors are inverted, except those of code, which is already dark."""


def add_page(app: FastAPI) -> None:
    """Add the page at `/`, with its style and scripts."""
    for path, (name, kind) in PAGE.items():
        content = (Path(__file__).parent / name).read_bytes()
        app.add_api_route(path, _constant(content, kind), include_in_schema=False)


def add_documentation(app: FastAPI) -> None:
    """Add the page of the documentation, `/docs`, to a FastAPIOffline."""

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        files = "/static-offline-docs"  # where fastapi-offline has Swagger's files
        page = get_swagger_ui_html(
            openapi_url="/openapi.json",
            title=f"{app.title} · API",
            swagger_js_url=f"{files}/swagger-ui-bundle.js",
            swagger_css_url=f"{files}/swagger-ui.css",
            swagger_favicon_url="data:,",
        )
        return HTMLResponse(bytes(page.body).decode().replace("</head>", f"<style>{DARK}</style></head>"))


def _constant(content: bytes, kind: str) -> Callable[[], Coroutine[Any, Any, Response]]:
    async def answer() -> Response:
        return Response(content, media_type=f"{kind}; charset=utf-8", headers={"Cache-Control": "no-cache"})

    return answer
