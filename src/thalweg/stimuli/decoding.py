"""From the bytes of a picture file to an upright picture in three colours of eight bits.

Models that were published take in such pictures, and people look at them, so whatever a file holds becomes one. Grey
becomes three equal colours; palettes are looked up; transparency is dropped, as published loaders do (the colour below
counts, not a background); CMYK is converted without a colour profile; of several frames the first is taken; and the
orientation that a camera noted (EXIF) is applied, so that up is up. Floating-point and negative numbers have no agreed
white and are refused.

Of sixteen bits a colour the upper eight are kept. Grey pictures of sixteen bits often hold fewer (a camera's twelve)
and would be all but black: so the set of them has one white, the largest number of as many bits as its brightest value
needs (`Glance.peak`, `white_of`), and their brightness can be compared. Pillow reduces colours of sixteen bits to
eight; where these are dark, thalweg can only say so.

Decoding takes long, so the check before the long work does less: it reads the header, and then what shows that a file
is truncated or altered: the checksums of a PNG, the end mark of a JPEG. Only where these are missing, for other
formats, for sixteen bits, and where asked for, is the picture decoded at once.
"""

import io
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from thalweg.errors import ThalwegError

END_OF_JPEG = b"\xff\xd9"
TAIL = 64  # bytes at the end in which a whole JPEG has its end mark; some writers pad
WHITE = 0xFFFF  # of sixteen bits
MODE_NAMES = {"F": "floating-point numbers"}
MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"})
# Pillow warns of what it refuses at twice the size; here only the refusal counts
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


@dataclass(frozen=True)
class Glance:
    """What a first look at a picture's bytes shows: why they give no picture, or nothing.

    Of sixteen bits a colour, `peak` is the brightest value; `grey` tells pictures that can be scaled by it.
    """

    flaw: str = ""
    peak: int | None = None
    grey: bool = False


def glance(content: bytes, *, whole: bool = False) -> Glance:
    """Look at a picture's bytes; what is altered within a JPEG shows only where it is decoded, that is if `whole`."""
    if not content:
        return Glance("is empty")
    try:
        with Image.open(io.BytesIO(content)) as image:
            if image.mode not in MODES and not image.mode.startswith("I"):
                return Glance(f"holds {MODE_NAMES.get(image.mode, image.mode)}; 8 or 16 bits a colour were expected")
            deep = _is_deep(image)
            if image.format == "PNG":
                image.verify()
            whole = whole or deep or image.format not in ("PNG", "JPEG")
            whole = whole or (image.format == "JPEG" and END_OF_JPEG not in content[-TAIL:])
        return _decoded_glance(content, deep) if whole else Glance()
    except Exception as wrong:  # each format of Pillow's raises what it likes
        return Glance(_reason(wrong))


def _decoded_glance(content: bytes, deep: bool) -> Glance:
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        if not deep:
            return Glance()
        lowest, peak = _extremes(image)
        flaw = f"holds negative numbers, as {lowest}; grey from 0 up was expected" if lowest < 0 else ""
        return Glance(flaw, peak, image.mode.startswith("I"))


def decoded(content: bytes, name: str, white: int = WHITE) -> Image.Image:
    """The picture that a file holds, upright and in three colours of eight bits; `white` is that of sixteen bits.

    Raises:
        ThalwegError: it cannot be decoded; the file is named.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            return in_colour(ImageOps.exif_transpose(image), white)
    except Exception as wrong:
        raise ThalwegError(
            f"{name}: {_reason(wrong)}, though it begins as a picture does; mend it, take it away, or leave out what "
            "does not decode with --skip-bad"
        ) from wrong


def white_of(peak: int) -> int:
    """The white of grey pictures whose brightest value is this: the largest number of as many bits, at least eight."""
    return int(max(0xFF, (1 << peak.bit_length()) - 1))


def in_colour(image: Image.Image, white: int = WHITE) -> Image.Image:
    """A picture in three colours of eight bits."""
    if image.mode.startswith("I"):  # grey of more than eight bits
        values = np.asarray(image).astype(np.int64).clip(0, white) >> (white.bit_length() - 8)
        return Image.fromarray(values.astype(np.uint8)).convert("RGB")
    if image.mode in ("P", "PA", "RGBa"):
        image = image.convert("RGBA")  # there may be transparency, which goes next
    return image.convert("RGB")


def square(image: Image.Image, side: int) -> Image.Image:
    """The middle square of a picture, as large as its shorter side, resized to so many pixels a side."""
    width, height = image.size
    edge = min(width, height)
    left, top = (width - edge) / 2, (height - edge) / 2
    return image.resize((side, side), Image.Resampling.BILINEAR, (left, top, left + edge, top + edge))


def _is_deep(image: Image.Image) -> bool:
    """Whether a picture that is not decoded yet has more than eight bits a colour."""
    return image.mode.startswith("I") or any(";16" in str(tile[3:]) for tile in getattr(image, "tile", ()))


def _extremes(image: Image.Image) -> tuple[int, int]:
    """The lowest and the highest value of a picture of more than eight bits a colour, as sixteen bits."""
    values = np.asarray(image if image.mode.startswith("I") else image.convert("RGB"))
    lowest, peak = int(values.min()), int(values.max())
    return (lowest, peak) if image.mode.startswith("I") else (lowest << 8, peak << 8 | 0xFF)


def _reason(wrong: Exception) -> str:
    if isinstance(wrong, UnidentifiedImageError):
        return "is no picture that Pillow can read"
    if isinstance(wrong, Image.DecompressionBombError):
        return f"has more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels, which no camera makes"
    return f"does not decode ({str(wrong).splitlines()[0][:100] if str(wrong) else type(wrong).__name__})"
