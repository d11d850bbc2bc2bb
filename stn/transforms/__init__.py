"""Families of transforms: `theta, points -> points`, and their table.

Every family is one function from options to a `Transform`, and one row of
`TRANSFORMS`. Theta is flat, (P,). Transforms act on any number of
points in any arrangement, and know nothing of images and grids.
"""

from stn.transforms.affine import affine, apply_affine
from stn.transforms.base import Transform
from stn.transforms.chain import chain
from stn.transforms.families import TRANSFORMS, get_transform
from stn.transforms.fit import theta_from_points
from stn.transforms.lattice import bspline, flow
from stn.transforms.log_polar import log_polar
from stn.transforms.matrices import compose, from_matrix, invert, to_matrix
from stn.transforms.projective import projective
from stn.transforms.rows import apply_rows
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
  "apply_rows",
  "attention",
  "bspline",
  "chain",
  "compose",
  "flow",
  "from_matrix",
  "get_transform",
  "invert",
  "log_polar",
  "projective",
  "rigid",
  "rotation",
  "similarity",
  "theta_from_points",
  "to_matrix",
  "tps",
  "translation",
]
