"""Descriptions of the answers for the API documentation, with examples."""

from typing import Any

from ..data.images import IMAGE_FORMATS

BUSY = "busy: too many images are waiting; try again in a few seconds"


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


def answers(max_bytes: int, max_pixels: int, max_seconds: int, found: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    """Return the description of each answer, with the limits of an upload.

    Args:
        max_bytes: largest upload.
        max_pixels: largest image.
        max_seconds: time limit of an upload.
        found: index, name and color of a class of the model, for the example.
    """
    return {
        200: {
            "description": "The mask, upright, at the size of the image",
            "content": {
                "image/png": {"schema": {"type": "string", "format": "binary"}},
                "application/json": {
                    "example": {
                        "width": 500,
                        "height": 375,
                        "network_width": 500,
                        "network_height": 375,
                        "seconds": 0.7,
                        "classes": [{**found, "pixels": 187500, "share": 1.0}],
                        "mask": "palette PNG in base64",
                    }
                },
            },
        },
        400: _refused("A damaged form", "Invalid multipart data."),
        408: _refused(f"The upload took longer than {max_seconds} seconds", f"upload: took longer than {max_seconds} seconds"),
        413: _refused(
            f"More than {max_bytes:,} bytes or {max_pixels:,} pixels",
            f"upload: more than {max_bytes:,} bytes; make the image smaller, or save it as JPEG",
        ),
        415: _refused(
            "Not an image",
            f"upload: not a readable image (none of {', '.join(IMAGE_FORMATS)}); save it as one, or copy it again",
        ),
        422: _refused("A damaged or unsupported image, or an unknown format", "upload: empty; send the bytes of an image"),
        503: _refused("Too many images are waiting; Retry-After says when to try again", BUSY),
    }


def answered(example: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    """Return the description of an answer of JSON, by an example."""
    return {200: {"content": {"application/json": {"example": example}}}}
