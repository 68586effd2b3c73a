"""The sRGB profile that objects with colours carry (PS3.3 C.11.15)."""

from __future__ import annotations

from functools import lru_cache

from PIL import ImageCms


@lru_cache(maxsize=1)
def srgb_profile() -> bytes:
    """SRGB as the profile of an input device, without the date of its making."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    # ICC.1:2010 table 17: class at 12, date at 24, profile ID (which may be zero) at 84.
    profile[12:16] = b"scnr"
    profile[24:36] = bytes.fromhex("07e80001000100000000") + b"\0\0"
    profile[84:100] = bytes(16)
    return bytes(profile) + b"\0" * (len(profile) % 2)
