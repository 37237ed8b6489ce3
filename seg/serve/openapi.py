"""What the API documentation says about `POST /api/segment`."""

from typing import Any


def _refused(description: str, detail: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"example": {"detail": detail}}}}


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


def answers(max_bytes: int, max_pixels: int, max_seconds: int) -> dict[int | str, dict[str, Any]]:
    """Return the description of each answer, with the limits of an upload."""
    return {
        200: {
            "description": "The mask, upright, at the size of the image",
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
        400: _refused("A damaged form", "upload: the form has no file"),
        408: _refused(f"The upload took longer than {max_seconds} seconds", f"upload: took longer than {max_seconds} seconds"),
        413: _refused(f"More than {max_bytes:,} bytes or {max_pixels:,} pixels", "upload: 40,000,000 pixels are too many"),
        415: _refused("Not an image", "upload: not an image"),
        422: _refused("A damaged or unsupported image, or an unknown format", "upload: the image is damaged: it ends early"),
        503: _refused("Too many images are waiting; Retry-After says when to try again", "too many images are waiting"),
    }
