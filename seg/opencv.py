"""A check that one OpenCV of the right version is installed."""

from .errors import UserError, reason

VERSION = 5
"""Version 4 rounds the positions of warpAffine to 1/32 pixel: crops differ by up to 7 gray levels."""
OTHERS = "opencv-python opencv-contrib-python opencv-contrib-python-headless"
MEND = f"pip uninstall -y {OTHERS} && pip install --force-reinstall --no-deps 'opencv-python-headless>={VERSION}'"


def check_opencv() -> None:
    """Raise UserError if `cv2` cannot be imported or is too old.

    Several distributions own the module cv2: installing another one for another program overwrites that of seg.
    """
    try:
        import cv2
    except ImportError as error:
        raise UserError(f"OpenCV cannot be imported ({reason(error)}): {MEND}") from error
    version = getattr(cv2, "__version__", "unknown version")
    if not version.split(".")[0].isdecimal() or int(version.split(".")[0]) < VERSION:
        raise UserError(f"OpenCV {version} is installed, perhaps by another program; seg needs {VERSION} or newer: {MEND}")
