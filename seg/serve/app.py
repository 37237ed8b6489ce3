"""What is answered: `POST /api/segment`, `GET /api/model`, `/healthz`, the page at `/`, the API's description at `/docs`.

Every refusal is JSON, `{"detail": one line}`: 400 for a damaged form, 408 for an upload that takes longer than `SECONDS`, 413
for one of more than `BYTES` or an image of more than `PIXELS` (told by its header, before it is decoded), 415 for what is no
image, 422 for an image that is damaged or of a kind that is not read, 503 with Retry-After where `WAITING` images or `HELD`
bytes are there already. Images are read as `seg predict` reads them (seg/data/images.py), so that the masks are equal.
"""

import asyncio
import base64
import io
import time
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi_offline import FastAPIOffline
from PIL import Image
from starlette.datastructures import MutableHeaders, UploadFile
from starlette.requests import ClientDisconnect

from .. import __version__
from ..data.images import NotAnImage, TooLarge, read_image
from ..data.prepare import scenes
from ..errors import UserError
from ..inference.images import picture
from ..inference.predictor import Predictor
from ..labels import VOID

BYTES = 20 * 2**20
"""The largest upload."""
PIXELS = 25_000_000
"""The largest image, in pixels."""
WAITING = 16
"""How many images may wait for their turn, with the one that has it."""
HELD = 256 * 2**20
"""How many bytes of uploads may be in memory."""
SECONDS = 60
"""How long an upload may take."""

MODES = {"png": "palette", "index": "index", "overlay": "overlay"}
"""The `--mode` of `seg predict` that each format of picture is."""
EXAMPLE = (5, 3, 480)
"""Seed, number and size of the scene that is the example."""

PAGE = {"/": ("page.html", "text/html"), "/page.css": ("page.css", "text/css"), "/page.js": ("page.js", "text/javascript")}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
DOCS_POLICY = POLICY.replace("script-src 'self'", "script-src 'self' 'unsafe-inline'").replace(
    "style-src 'self'", "style-src 'self' 'unsafe-inline'"
)
"""Of Swagger's page, which has its start-up script in it."""


class Service:
    """A model that segments one image at a time, in a thread of its own; so many may wait, and so many bytes."""

    def __init__(self, predictor: Predictor, name: str):
        self.predictor, self.labels, self.name = predictor, predictor.labels, name
        self.thread, self.turn = ThreadPoolExecutor(1, "segment"), asyncio.Lock()
        self.waiting = self.held = 0

    def description(self) -> dict:
        """What `GET /api/model` answers."""
        return {
            "name": self.name,
            "version": __version__,
            "score": self.predictor.score,
            "classes": [self.described(index) for index in range(len(self.labels))],
            "void_color": list(self.labels.void_color),
            "limits": {"bytes": BYTES, "pixels": PIXELS, "waiting": WAITING},
        }

    def described(self, index: int) -> dict:
        if index == VOID:
            return {"index": VOID, "name": "void", "color": list(self.labels.void_color)}
        return {"index": index, "name": self.labels.names[index], "color": list(self.labels.colors[index])}

    def segment(self, content: bytes, form: str) -> Response:
        """The answer to an image, in the format `form`: a key of MODES, or json. Raises HTTPException where it is refused."""
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
        found = [int(index) for index in np.argsort(-counts, kind="stable") if counts[index]]
        return JSONResponse(
            {
                "width": mask.shape[1],
                "height": mask.shape[0],
                "seconds": round(time.monotonic() - began, 3),
                "classes": [
                    {**self.described(index), "pixels": int(counts[index]), "share": counts[index] / mask.size}
                    for index in found
                ],
                "mask": base64.b64encode(png(picture(image, mask, self.labels, "palette"))).decode(),
            }
        )


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@lru_cache(1)
def example() -> bytes:
    return png(Image.fromarray(scenes.scene(*EXAMPLE)[0]))


def busy() -> HTTPException:
    return HTTPException(503, "busy: too many images are waiting; try again in a few seconds", {"Retry-After": "5"})


def too_large() -> HTTPException:
    return HTTPException(413, f"upload: more than {BYTES:,} bytes; make the image smaller, or save it as JPEG")


async def receive(service: Service, request: Request, body: bytearray) -> None:
    """Read the request into `body`, no further than is allowed. Raises HTTPException."""
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
    """The image in a body that was read: all of it, or the first file of a form. Raises HTTPException where there is none."""
    if request.headers.get("content-type", "").startswith("multipart/form-data"):

        async def again():
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

DETAIL = {"content": {"application/json": {"example": {"detail": "upload: ..."}}}}
ANSWERS = {
    200: {
        "description": "The mask, at the size of the image, upright",
        "content": {
            "image/png": {"schema": {"type": "string", "format": "binary"}},
            "application/json": {
                "example": {
                    "width": 500,
                    "height": 375,
                    "seconds": 0.7,
                    "classes": [{"index": 8, "name": "cat", "color": [64, 0, 0], "pixels": 187500, "share": 1.0}],
                    "mask": "palette PNG in base64",
                }
            },
        },
    },
    400: {"description": "A damaged form", **DETAIL},
    408: {"description": f"The upload took longer than {SECONDS} seconds", **DETAIL},
    413: {"description": f"More than {BYTES:,} bytes or {PIXELS:,} pixels", **DETAIL},
    415: {"description": "Not an image", **DETAIL},
    422: {"description": "A damaged image, one of a kind that is not read, or an unknown format", **DETAIL},
    503: {"description": "Too many images are waiting; Retry-After says when to try again", **DETAIL},
}
BINARY = {"type": "string", "format": "binary"}
BODY = {
    "requestBody": {
        "required": True,
        "description": "The bytes of an image, or a form with one file",
        "content": {
            "multipart/form-data": {"schema": {"type": "object", "properties": {"image": BINARY}, "required": ["image"]}},
            "image/*": {"schema": BINARY},
        },
    }
}


class Headers:
    """Tells browsers to load nothing from elsewhere, guess no type, and keep no answer."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        async def sending(message):
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = DOCS_POLICY if scope["path"] == "/docs" else POLICY
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Referrer-Policy"] = "no-referrer"
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self.app(scope, receive, sending)


def make_app(service: Service) -> FastAPI:
    """The ASGI application of a service."""
    app = FastAPIOffline(
        title="seg",
        version=__version__,
        description="Semantic segmentation: an image in, the class of every pixel out.",
        redoc_url=None,
    )
    app.add_middleware(Headers)

    @app.exception_handler(RequestValidationError)
    async def mistaken(request, error):
        lines = [f"{'.'.join(map(str, each['loc'][1:]))}: {each['msg']}" for each in error.errors()]
        return JSONResponse({"detail": "; ".join(lines)}, 422)

    @app.exception_handler(Exception)
    async def failed(request, error):  # the traceback goes to the log alone
        return JSONResponse({"detail": "the service failed on this request; its log says why"}, 500)

    @app.post("/api/segment", summary="Segment an image", response_class=Response, responses=ANSWERS, openapi_extra=BODY)
    async def segment(request: Request, format: Form | None = None):
        """The bytes of an image (JPEG, PNG, WebP, TIFF, BMP, GIF), or a form with one file.

        `format`: `png`, the mask in the colors of its classes (a palette PNG, whose values are the classes); `index`, a gray
        PNG of class numbers; `overlay`, the mask over the image with a legend; `json`, the classes with their pixels and
        shares, and the palette PNG in base64. Without it, `json` where the Accept header asks for application/json, else `png`.
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
                    if await request.is_disconnected():  # gone while it waited
                        return Response(status_code=400)
                    loop = asyncio.get_running_loop()
                    return await loop.run_in_executor(service.thread, service.segment, content, form)
            finally:
                service.waiting -= 1
        except asyncio.TimeoutError as error:
            raise HTTPException(408, f"upload: took longer than {SECONDS} seconds", {"Connection": "close"}) from error
        except ClientDisconnect:
            return Response(status_code=400)  # to nobody
        finally:
            service.held -= len(body)

    @app.get("/api/model", summary="Classes, colors and limits")
    def model() -> dict:
        return service.description()

    @app.get(
        "/api/example", summary="An image to try", response_class=Response, responses={200: {"content": {"image/png": {}}}}
    )
    def an_example():
        return Response(example(), media_type="image/png")

    @app.get("/healthz", summary="Whether the service answers, and how many images wait")
    async def healthz() -> dict:
        return {"status": "ok", "waiting": service.waiting}

    for path, (name, kind) in PAGE.items():
        content = (Path(__file__).parent / name).read_bytes()
        app.add_api_route(path, _constant(content, kind), include_in_schema=False)
    return app


def _constant(content: bytes, kind: str):
    async def answer():
        return Response(content, media_type=f"{kind}; charset=utf-8", headers={"Cache-Control": "no-cache"})

    return answer
