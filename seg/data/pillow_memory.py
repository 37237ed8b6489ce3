"""The memory of a Pillow image as an array, without a copy."""

import ctypes
from typing import Any

import numpy as np
from PIL import Image


class _Arrow(ctypes.Structure):
    """An array as the Arrow C data interface gives it; later fields are not needed here."""


_Arrow._fields_ = [
    *((name, ctypes.c_int64) for name in ("length", "null_count", "offset", "n_buffers", "n_children")),
    ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.POINTER(ctypes.POINTER(_Arrow))),
]
_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_GetPointer", ctypes.pythonapi))


def pillow_memory(image: Image.Image) -> np.ndarray:
    """The memory of an image of several channels: uint8 [H, W, 4]. Raises ValueError if it is not in one piece."""
    _, capsule = image.__arrow_c_array__()
    exported = ctypes.cast(_pointer(capsule, b"arrow_array"), ctypes.POINTER(_Arrow)).contents
    values = exported.children[0].contents.buffers[1]
    memory: Any = (ctypes.c_uint8 * (image.height * image.width * 4)).from_address(values)
    memory.owner = capsule  # keeps the memory alive as long as the array
    array: np.ndarray = np.frombuffer(memory, np.uint8)
    return array.reshape(image.height, image.width, 4)
