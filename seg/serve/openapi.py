"""What the API documentation says about `POST /api/segment`."""

from typing import Any

DETAIL = {"content": {"application/json": {"example": {"detail": "upload: ..."}}}}
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
        400: {"description": "A damaged form", **DETAIL},
        408: {"description": f"The upload took longer than {max_seconds} seconds", **DETAIL},
        413: {"description": f"More than {max_bytes:,} bytes or {max_pixels:,} pixels", **DETAIL},
        415: {"description": "Not an image", **DETAIL},
        422: {"description": "A damaged image, an unsupported kind of image, or an unknown format", **DETAIL},
        503: {"description": "Too many images are waiting; Retry-After says when to try again", **DETAIL},
    }
