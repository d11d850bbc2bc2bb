"""Families of transforms: `theta, points -> points`, and their table.

Every family is one function from options to a `Transform`, and one row of
`TRANSFORMS`. Theta is flat, (P,). Transforms act on points, of any number and
arrangement, so they know nothing of images and grids.
"""

from stn.transforms.affine import affine, apply_affine
from stn.transforms.base import Transform
from stn.transforms.families import TRANSFORMS, get_transform
from stn.transforms.lattice import bspline, flow
from stn.transforms.projective import projective
from stn.transforms.similarity import (
  attention,
  rigid,
  rotation,
  similarity,
  translation,
)
from stn.transforms.tps import tps

__all__ = [
  "TRANSFORMS",
  "Transform",
  "affine",
  "apply_affine",
  "attention",
  "bspline",
  "flow",
  "get_transform",
  "projective",
  "rigid",
  "rotation",
  "similarity",
  "tps",
  "translation",
]
