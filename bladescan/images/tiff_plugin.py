"""Pillow's reader of TIFF, with the pages that it misreads or does not read taken from `tiff_samples`.

Orientation is left to the caller, as in other formats.
"""

from __future__ import annotations

from typing import Any

from PIL import Image, TiffImagePlugin

from bladescan.base.errors import ImageError
from bladescan.base.records import Reason
from bladescan.images.tiff_samples import Layout, layout_of, read_page

_YCBCR, _INK_SET = 6, 332
_PHOTOMETRIC = frozenset((*range(11), 32844, 32845))
"""Those of the specification and of libtiff."""


class TiffPages(TiffImagePlugin.TiffImageFile):
    """A TIFF whose pages show what they mean, as they are stored: not turned upright.

    Raises:
        ImageError: format-not-allowed for a layout of samples that is not read.
    """

    _layout: Layout | None = None

    @property
    def alpha_is_stated(self) -> bool:
        """Whether the page says that its last sample is opacity."""
        return any(value in (1, 2) for value in self.tag_v2.get(TiffImagePlugin.EXTRASAMPLES, ()))

    def _setup(self) -> None:
        tags = dict(self.tag_v2)
        layout = layout_of(tags, "<" if self.tag_v2.prefix == b"II" else ">")
        self._layout = None
        if layout is not None and not layout.is_for_pillow:
            if layout.problem:
                raise ImageError(Reason.FORMAT_NOT_ALLOWED, f"{layout.problem} is not opened")
            self._layout = layout
            self._tile_size = (layout.width, layout.height)
            self._mode, self.tile, self._im = "L", [], None
        else:
            self._set_up_by_pillow(layout, tags)
        self._size = self._tile_size
        self._set_profile(tags)

    def _set_up_by_pillow(self, layout: Layout | None, tags: dict[int, Any]) -> None:
        plain = TiffImagePlugin.READ_LIBTIFF
        try:
            # Pillow's own reading of uncompressed YCbCr takes no notice of subsampling.
            TiffImagePlugin.READ_LIBTIFF = plain or tags.get(262) == _YCBCR
            super()._setup()
        except (SyntaxError, KeyError) as exc:
            if layout is None or tags.get(262) not in _PHOTOMETRIC:
                raise
            what = f"TIFF of {layout.n_samples} x {layout.bits} bits, photometric {layout.photometric}"
            detail = f"{what}, compression {layout.compression} is not opened"
            raise ImageError(Reason.FORMAT_NOT_ALLOWED, detail) from exc
        finally:
            TiffImagePlugin.READ_LIBTIFF = plain
        if tags.get(_INK_SET) == 2:
            raise ImageError(Reason.FORMAT_NOT_ALLOWED, "TIFF of inks other than CMYK is not opened")

    def _set_profile(self, tags: dict[int, Any]) -> None:
        self.info.pop("icc_profile", None)  # of the page before
        if isinstance(profile := tags.get(TiffImagePlugin.ICCPROFILE), bytes):
            self.info["icc_profile"] = profile

    def load(self) -> Any:
        """Decode the page."""
        if self._layout is None:
            return super().load()
        if self._im is None:
            assert self.fp is not None
            picture = read_page(self.fp.getvalue(), self._layout)  # type: ignore[attr-defined]
            self._mode, self.im = picture.mode, picture.im
        return Image.Image.load(self)

    def load_end(self) -> None:
        """Leave the page as it is stored: the caller turns it."""
