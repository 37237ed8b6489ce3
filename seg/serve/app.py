"""The web service: `POST /api/segment`, `GET /api/model`, `/healthz`, the page at `/`, the API documentation at `/docs`.

Every error is JSON, `{"detail": one line}`: 400 for a damaged form, 408 for an upload that takes longer than `SECONDS`, 413
for an upload of more than `BYTES` or an image of more than `PIXELS` (read from its header, before decoding), 415 for data that
is not an image, 422 for an image that is damaged or of an unsupported kind, 503 with Retry-After if `WAITING` images or `HELD`
bytes are waiting. Images are read as `seg predict` reads them (seg/data/images.py), so that the masks are equal.
"""

import asyncio
import base64
import io
import time
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi_offline import FastAPIOffline
from PIL import Image
from starlette.datastructures import MutableHeaders, UploadFile
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .. import __version__
from ..data.images import NotAnImage, TooLarge, read_image
from ..data.prepare import scenes
from ..errors import UserError
from ..inference.outputs import picture
from ..inference.predictor import Predictor
from ..labels import VOID
from .openapi import BODY, BUSY, answered, answers
from .pages import add_documentation, add_page

BYTES = 20 * 2**20
"""The largest upload."""
PIXELS = 25_000_000
"""The largest image, in pixels."""
WAITING = 16
"""Largest number of images that wait or are processed."""
HELD = 256 * 2**20
"""Largest total size of uploads in memory, in bytes."""
SECONDS = 60
"""Time limit of an upload."""

MODES = {"png": "palette", "index": "index", "overlay": "overlay"}
"""The `--mode` of `seg predict` for each picture format."""
EXAMPLE = (5, 3, 480)
"""Seed, number and size of the example scene."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
DOCS_POLICY = POLICY.replace("script-src 'self'", "script-src 'self' 'unsafe-inline'").replace(
    "style-src 'self'", "style-src 'self' 'unsafe-inline'"
)
"""Content security policy of Swagger's page, whose start-up script is inline."""


class Service:
    """A model that segments one image at a time, in its own thread.

    Args:
        predictor: the model.
        name: name of the model on the page.
    """

    def __init__(self, predictor: Predictor, name: str):
        self.predictor, self.labels, self.name = predictor, predictor.labels, name
        self.thread, self.turn = ThreadPoolExecutor(1, "segment"), asyncio.Lock()
        self.waiting = self.held = 0

    def description(self) -> dict[str, Any]:
        """Return the answer of `GET /api/model`."""
        return {
            "name": self.name,
            "version": __version__,
            "score": self.predictor.score,
            "classes": [self.described(index) for index in range(len(self.labels))],
            "background": self.labels.background,
            "void_color": list(self.labels.void_color),
            "limits": {"bytes": BYTES, "pixels": PIXELS, "waiting": WAITING},
        }

    def described(self, index: int) -> dict[str, Any]:
        """Return index, name and color of a mask value."""
        if index == VOID:
            return {"index": VOID, "name": "void", "color": list(self.labels.void_color)}
        return {"index": index, "name": self.labels.names[index], "color": list(self.labels.colors[index])}

    def segment(self, content: bytes, form: str) -> Response:
        """Segment an image and return the answer.

        Args:
            content: the bytes of the image file.
            form: a key of MODES, or json.

        Raises:
            HTTPException: the image is refused.
        """
        began = time.monotonic()
        try:
            image = read_image(io.BytesIO(content), "upload", PIXELS)
        except UserError as error:
            status = 413 if isinstance(error, TooLarge) else 415 if isinstance(error, NotAnImage) else 422
            raise HTTPException(status, str(error)) from error
        mask = self.predictor.predict(image)
        if form != "json":
            return Response(png(picture(image, mask, self.labels, MODES[form])), media_type="image/png")
        counts = np.bincount(mask.ravel(), minlength=256)
        height, width = self.predictor.looking_size(image)
        found = [int(index) for index in np.argsort(-counts, kind="stable") if counts[index]]
        return JSONResponse(
            {
                "width": mask.shape[1],
                "height": mask.shape[0],
                "network_width": width,
                "network_height": height,
                "seconds": round(time.monotonic() - began, 3),
                "classes": [
                    {**self.described(index), "pixels": int(counts[index]), "share": counts[index] / mask.size}
                    for index in found
                ],
                "mask": base64.b64encode(png(picture(image, mask, self.labels, "palette"))).decode(),
            }
        )


def png(image: Image.Image) -> bytes:
    """Encode a picture as PNG."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@lru_cache(1)
def example() -> bytes:
    """Return the example image as PNG."""
    return png(Image.fromarray(scenes.scene(*EXAMPLE)[0]))


def busy() -> HTTPException:
    """Return the error for too many waiting images."""
    return HTTPException(503, BUSY, {"Retry-After": "5"})


def too_large() -> HTTPException:
    """Return the error for a large upload."""
    return HTTPException(413, f"upload: more than {BYTES:,} bytes; make the image smaller, or save it as JPEG")


async def receive(service: Service, request: Request, body: bytearray) -> None:
    """Read the request into `body`. Raises HTTPException at the first byte over a limit."""
    if int(request.headers.get("content-length", 0)) > BYTES:
        raise too_large()
    async for chunk in request.stream():
        body += chunk
        service.held += len(chunk)
        if len(body) > BYTES:
            raise too_large()
        if service.held > HELD:
            raise busy()


async def content_of(request: Request, body: bytes) -> bytes:
    """Return the image in a body: all of it, or the first file of a form. Raises HTTPException if there is none."""
    if request.headers.get("content-type", "").startswith("multipart/form-data"):

        async def again() -> dict[str, Any]:
            return {"type": "http.request", "body": body}

        async with Request(request.scope, again).form(max_files=1, max_fields=9) as form:
            files = [value for value in form.values() if isinstance(value, UploadFile)]
            if not files:
                raise HTTPException(422, "upload: no file in the form; send the image as one: curl -F image=@photo.jpg")
            body = await files[0].read()
    if not body:
        raise HTTPException(422, "upload: empty; send the bytes of an image")
    return body


Form = Literal["png", "index", "overlay", "json"]


class Headers:
    """Middleware whose headers forbid browsers to load anything from elsewhere, to guess types and to cache answers."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = DOCS_POLICY if scope["path"] == "/docs" else POLICY
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Referrer-Policy"] = "no-referrer"
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self.app(scope, receive, sending)


def _answer_errors_in_json(app: FastAPI) -> None:
    @app.exception_handler(RequestValidationError)
    async def invalid_request(request: Request, error: RequestValidationError) -> JSONResponse:
        lines = [f"{'.'.join(map(str, each['loc'][1:]))}: {each['msg']}" for each in error.errors()]
        return JSONResponse({"detail": "; ".join(lines)}, 422)

    @app.exception_handler(404)
    async def unknown(request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"detail": f"no page {request.url.path}; images go to POST /api/segment, see /docs"}, 404)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> JSONResponse:  # only the log gets the traceback
        return JSONResponse({"detail": "the service failed on this request; its log has the reason"}, 500)


def _add_information(app: FastAPI, service: Service) -> None:
    @app.get("/api/model", summary="Classes, colors and limits", tags=["Model"], responses=answered(service.description()))
    def model() -> dict[str, Any]:
        return service.description()

    @app.get(
        "/api/example",
        summary="An image to try",
        tags=["Model"],
        response_class=Response,
        responses={200: {"content": {"image/png": {}}}},
    )
    def example_image() -> Response:
        return Response(example(), media_type="image/png")

    healthy = answered({"status": "ok", "waiting": 0})

    @app.get("/healthz", summary="Health, and the number of waiting images", tags=["Health"], responses=healthy)
    async def healthz() -> dict[str, Any]:
        return {"status": "ok", "waiting": service.waiting}


def make_app(service: Service) -> FastAPI:
    """Return the ASGI application of a service."""
    app = FastAPIOffline(
        title="seg",
        version=__version__,
        description="Semantic segmentation: send an image, get the class of every pixel.",
        docs_url=None,
        redoc_url=None,
    )
    app.add_middleware(Headers)

    _answer_errors_in_json(app)

    @app.post(
        "/api/segment",
        summary="Segment an image",
        response_class=Response,
        tags=["Segmentation"],
        responses=answers(BYTES, PIXELS, SECONDS, service.described(len(service.labels) - 1)),
        openapi_extra=BODY,
    )
    async def segment(request: Request, format: Form | None = None) -> Response:
        """Send the bytes of an image (JPEG, PNG, WebP, TIFF, BMP, GIF), or a form with one file.

        `format`: `png`, the mask as a palette PNG in the colors of the classes; `index`, a gray PNG of class indices;
        `overlay`, the mask over the image, with a legend; `json`, the classes with their pixels and shares, and the palette PNG
        in base64. The default is `json` if the Accept header asks for application/json, else `png`.
        """
        form = format or ("json" if "application/json" in request.headers.get("accept", "") else "png")
        body = bytearray()
        try:
            await asyncio.wait_for(receive(service, request, body), SECONDS)
            content = await content_of(request, bytes(body))
            if service.waiting >= WAITING:
                raise busy()
            service.waiting += 1
            try:
                async with service.turn:
                    if await request.is_disconnected():  # the client has disconnected
                        return Response(status_code=400)
                    loop = asyncio.get_running_loop()
                    return await loop.run_in_executor(service.thread, service.segment, content, form)
            finally:
                service.waiting -= 1
        except asyncio.TimeoutError as error:
            raise HTTPException(408, f"upload: took longer than {SECONDS} seconds", {"Connection": "close"}) from error
        except ClientDisconnect:
            return Response(status_code=400)  # the client has disconnected
        finally:
            service.held -= len(body)

    _add_information(app, service)
    add_page(app)
    add_documentation(app)
    return app
