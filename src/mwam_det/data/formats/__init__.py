"""Datasets as they were published, one module each."""

from mwam_det.data.formats.coco import COCO
from mwam_det.data.formats.dronevehicle import DRONEVEHICLE
from mwam_det.data.formats.flir import FLIR
from mwam_det.data.formats.kaist import KAIST
from mwam_det.data.formats.llvip import LLVIP
from mwam_det.data.formats.m3fd import M3FD
from mwam_det.data.formats.nyuv2 import NYUV2
from mwam_det.data.formats.vedai import VEDAI

FORMATS = {format_.name: format_ for format_ in (DRONEVEHICLE, LLVIP, FLIR, KAIST, M3FD, VEDAI, NYUV2, COCO)}
"""All formats by name."""
