"""The code of the docs runs, and their tables are true."""

import pathlib
import re

import numpy as np
import pytest

import stn

DOCS = pathlib.Path(__file__).parent.parent / "docs"
TRANSFORMS = (DOCS / "transforms.md").read_text()


def blocks(text):
  return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


@pytest.fixture
def names():
  """What the blocks define; the row that they add is taken away again."""
  before = dict(stn.TRANSFORMS)
  names = {}
  for block in blocks(TRANSFORMS):
    exec(block, names)
  yield names
  stn.TRANSFORMS.clear()
  stn.TRANSFORMS.update(before)


def test_the_code_runs_and_does_what_it_says(names):
  product = np.asarray(names["turn"]) @ np.asarray(names["zoom"])
  np.testing.assert_allclose(
    names["affine"].reshape(2, 3), product[:2], atol=1e-6
  )
  there = stn.transform_grid("affine", names["affine"], (3, 3))
  back = stn.get_transform("affine").apply(names["undo"], there)
  np.testing.assert_allclose(back, stn.regular_grid((3, 3)), atol=1e-6)

  seen = stn.get_transform("projective").apply(
    names["homography"], names["corners"]
  )
  np.testing.assert_allclose(seen, names["seen"], atol=1e-5)

  shear = stn.get_transform("shear")
  moved = shear.apply(np.array([0.5], np.float32), names["corners"])
  np.testing.assert_allclose(moved[0], [-1.5, -1])
  assert names["sheared"].shape == (8, 8, 1)
  np.testing.assert_array_equal(
    stn.spatial_transform(names["image"], shear.identity, transform="shear"),
    names["image"],
  )


def test_the_table_has_every_family_and_its_number_of_parameters():
  rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", TRANSFORMS, re.M))
  assert set(rows) == set(stn.TRANSFORMS)
  for name, counts in rows.items():
    for ndim, count in enumerate(counts.split(" / "), start=1):
      if count == "-":
        with pytest.raises(ValueError, match="`ndim`"):
          stn.get_transform(name, ndim=ndim)
      else:
        assert stn.get_transform(name, ndim=ndim).num_params == int(count)


EXPORT, ONNX = (DOCS / "export.md").read_text().split("## ONNX")


@pytest.mark.filterwarnings("ignore:Explicitly requested dtype float64")
@pytest.mark.parametrize("onnx", [False, True], ids=["StableHLO", "ONNX"])
def test_the_exports_run(own_errors, onnx):
  """Symbolic sizes do as ints, but are none for jaxtyping."""
  pytest.importorskip("flatbuffers")
  names = {}
  for block in blocks(EXPORT):
    exec(block, names)
  ones = np.ones((5, 28, 28, 1))
  np.testing.assert_array_equal(names["warped"], ones)
  np.testing.assert_allclose(names["gradient"].sum(), ones.size, rtol=0.2)
  assert names["thumbnails"].shape == (2, 16, 16, 3)
  if onnx:
    pytest.importorskip("jax2onnx")
    pytest.importorskip("onnxruntime")
    for block in blocks(ONNX):
      exec(block, names)
    np.testing.assert_allclose(names["from_onnx"], ones, atol=1e-6)
