"""Datasets as they were published, one module each."""

from mwam_det.data.formats.llvip import LLVIP

FORMATS = {format_.name: format_ for format_ in (LLVIP,)}
"""All formats by name."""
