"""Pictures that are put into a page: lighter where the eye sees no difference.

A saved notebook carries every picture that it shows. Line drawings, as most figures are, need a
third of the bytes with a palette; the files themselves are never touched.
"""

from __future__ import annotations

import base64
import io

#: Colours of the palette, and the difference to the original (of 255, root mean square) that nobody sees.
COLOURS = 64
DIFFERENCE = 2.0
#: A picture of fewer bytes than this is not worth the work.
SMALL = 10_000


def data_uri(data: bytes, kind: str) -> str:
    """Return a picture as a ``data:`` URI, lighter than the file if it can be.

    Parameters
    ----------
    data
        The content of the file.
    kind
        Its media type, such as ``image/png``.

    >>> data_uri(b"GIF89a", "image/gif")
    'data:image/gif;base64,R0lGODlh'
    """
    content = lighter(data) if kind == "image/png" and len(data) > SMALL else data
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def lighter(data: bytes) -> bytes:
    """Return a PNG with a palette in place of full colour, or as it is when that would be seen or save little."""
    from PIL import Image, ImageChops, ImageStat

    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.mode == "P" or (image.mode == "RGBA" and image.getchannel("A").getextrema() != (255, 255)):
                return data  # it has a palette, or can be seen through
            plain = image.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError):
        return data
    reduced = plain.quantize(COLOURS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    difference = ImageStat.Stat(ImageChops.difference(plain, reduced.convert("RGB")))
    if max(difference.rms) > DIFFERENCE:
        return data
    out = io.BytesIO()
    reduced.save(out, "PNG", optimize=True)
    return out.getvalue() if out.tell() < len(data) else data
