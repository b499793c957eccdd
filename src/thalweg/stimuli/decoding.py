"""From the bytes of a picture file to an upright picture in three colours of eight bits.

Models that were published take in such pictures, and people look at them, so whatever a file holds becomes one. Grey
becomes three equal colours; palettes are looked up; transparency is dropped, as published loaders do (the colour below
counts, not a background); CMYK is converted without a colour profile; of sixteen bits the upper eight are kept; of
several frames the first; and the orientation that a camera noted (EXIF) is applied, so that up is up. Floating-point
numbers have no agreed white and are refused.

Decoding is the price of every look at a picture, so the check before the long work does less: it reads the header, and
then what shows a truncated or altered file: the checksums of a PNG, the end mark of a JPEG. Only where these are
missing, and for other formats, is the picture decoded at once.
"""

import io

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from thalweg.errors import ThalwegError

END_OF_JPEG = b"\xff\xd9"
TAIL = 64  # bytes at the end in which a whole JPEG has its end mark; some writers pad


def flaw(content: bytes) -> str:
    """Why these bytes give no picture, or nothing; what is altered within a JPEG shows only when it is decoded."""
    if not content:
        return "is empty"
    try:
        with Image.open(io.BytesIO(content)) as image:
            if image.mode == "F":
                return "holds floating-point numbers; 8 or 16 bits a colour were expected"
            if image.format == "PNG":
                image.verify()
            elif image.format != "JPEG" or END_OF_JPEG not in content[-TAIL:]:
                image.load()
    except Exception as wrong:  # each format of Pillow's raises what it likes
        return _reason(wrong)
    return ""


def decoded(content: bytes, name: str) -> Image.Image:
    """The picture that a file holds, upright and in three colours of eight bits.

    Raises:
        ThalwegError: it cannot be decoded; the file is named.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            return in_colour(ImageOps.exif_transpose(image))
    except Exception as wrong:
        raise ThalwegError(
            f"{name}: {_reason(wrong)}, though it begins as a picture does; mend it or take it away"
        ) from wrong


def in_colour(image: Image.Image) -> Image.Image:
    """A picture in three colours of eight bits."""
    if image.mode.startswith("I"):  # sixteen bits of grey
        return Image.fromarray((np.asarray(image).clip(0, 0xFFFF) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "P":
        image = image.convert("RGBA")  # a palette may hold transparency, which goes next
    return image.convert("RGB")


def square(image: Image.Image, side: int) -> Image.Image:
    """The middle square of a picture, as large as its shorter side, resized to so many pixels a side."""
    width, height = image.size
    edge = min(width, height)
    left, top = (width - edge) / 2, (height - edge) / 2
    return image.resize((side, side), Image.Resampling.BILINEAR, (left, top, left + edge, top + edge))


def _reason(wrong: Exception) -> str:
    if isinstance(wrong, UnidentifiedImageError):
        return "is no picture that Pillow can read"
    return f"does not decode ({str(wrong).splitlines()[0][:100] if str(wrong) else type(wrong).__name__})"
