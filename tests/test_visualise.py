import io
import pathlib
from types import SimpleNamespace

import jax
import matplotlib.colors
import numpy as np
import PIL.Image
import pytest

import stn
from stn.visualise import (
  encode_png,
  grid_outline,
  panel,
  region_lines,
  to_picture,
  write_gif,
)
from stn.visualise.panel import _OUTLINES

BLUE, VERMILION = (0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)


def rotation(angle, scale=1.0):
  cos, sin = scale * np.cos(angle), scale * np.sin(angle)
  return np.array([cos, -sin, 0, sin, cos, 0], np.float32)


def grid_of(theta, size):
  return np.asarray(stn.transform_grid("affine", theta, size))


def captions_of(answers, labels):
  return [
    SimpleNamespace(
      text=f"{a} ✓" if a == b else f"{a} ✗ ({b})", correct=a == b, box=None
    )
    for a, b in zip(answers, labels, strict=True)
  ]


def warp_of(grid, images, output):
  """grid (N, K, *output, d), output (N, K, *output, C)."""
  return SimpleNamespace(grid=grid, input=images, output=output)


def picture_of(
  number=2, transformers=1, channels=1, right=None, size=(12, 10), title="step"
):
  """A panel of random images; `right` says which answers are."""
  rng = np.random.default_rng(0)
  images = rng.uniform(size=(number, *size, channels)).astype(np.float32)
  right = np.arange(number) % 2 == 0 if right is None else right
  labels = np.arange(number) % 10
  captions = captions_of(np.where(right, labels, (labels + 1) % 10), labels)
  warps = {}
  if transformers:
    grids = [
      grid_of(rotation(0.4 * k + 0.2, 0.7), size) for k in range(transformers)
    ]
    shape = (number, transformers, *size, channels)
    output = rng.uniform(size=shape).astype(np.float32)
    grid = np.stack([np.stack(grids)] * number)
    warps["transformer"] = warp_of(grid, images, output)
  return panel(images, captions, warps, title)


def digits_panel(step):
  """What a run on MNIST draws: 10 examples of smooth strokes, two rows."""
  axis = np.arange(28) - 13.5
  y, x = np.meshgrid(axis, axis, indexing="ij")
  angles = np.linspace(-1.5, 1.5, 10)[:, None, None]
  u, v = (
    np.cos(angles) * x + np.sin(angles) * y,
    np.cos(angles) * y - np.sin(angles) * x,
  )
  ring = np.abs(np.hypot(u, 1.6 * v) - 8)
  images = np.clip(2.5 - ring, 0, 1)[..., None].astype(np.float32)
  thetas = [
    rotation(a * step / 10, 1 - step / 50) for a in np.linspace(-1, 1, 10)
  ]
  grids = np.stack([grid_of(theta, (28, 28)) for theta in thetas])
  warped = np.asarray(jax.vmap(stn.grid_sample)(images, grids))
  labels = np.arange(10)
  answers = np.where(labels < step, labels, (labels + 1) % 10)
  warps = {"st": warp_of(grids[:, None], images, warped[:, None])}
  title = f"step {step * 250}: test error {90 - 8 * step:.2f} %"
  return panel(images, captions_of(answers, labels), warps, title)


@pytest.fixture(scope="module")
def panels():
  return [digits_panel(step) for step in (0, 2, 5, 8, 10)]


def decoded(png):
  image = PIL.Image.open(io.BytesIO(png))
  assert image.format == "PNG"
  return np.asarray(image.convert("RGB"))


def distance(picture, colour):
  """Of each pixel from a colour: the largest difference of a channel."""
  return np.abs(np.asarray(picture, int) - colour).max(axis=-1)


# The outline.


@pytest.mark.parametrize("align_corners", [False, True])
def test_outline_of_the_identity_goes_through_the_outermost_pixels(
  align_corners,
):
  grid = stn.regular_grid((4, 5), align_corners=align_corners)
  outline = grid_outline(grid, (4, 5), align_corners=align_corners)
  top = [(x, 0) for x in range(5)]
  right = [(4, y) for y in range(1, 4)]
  bottom = [(x, 3) for x in range(3, -1, -1)]
  left = [(0, y) for y in range(2, -1, -1)]
  np.testing.assert_allclose(outline, top + right + bottom + left, atol=1e-6)


def test_outline_of_a_rotation_by_hand():
  """Pixels of an 8x8 image: the centre is 3.5, corners are 3.5 away from it."""
  angle, half = 0.3, 3.5
  outline = grid_outline(grid_of(rotation(angle), (8, 8)), (8, 8))
  cos, sin = np.cos(angle), np.sin(angle)
  corners = [(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)]
  expected = [
    (3.5 + half * (cos * x - sin * y), 3.5 + half * (sin * x + cos * y))
    for x, y in corners
  ]
  assert outline.shape == (4 * 7 + 1, 2)
  np.testing.assert_allclose(outline[::7], expected, atol=1e-5)


def test_outline_is_in_pixels_of_the_input_not_the_output():
  half = np.array([0.5, 0, 0, 0, 0.5, 0], np.float32)
  outline = grid_outline(grid_of(half, (4, 4)), (16, 32))
  # Output pixel centres lie at -0.75 ... 0.75, halved, on a 32 x 16 image.
  assert outline.min(axis=0) == pytest.approx([9.5, 4.5])
  assert outline.max(axis=0) == pytest.approx([21.5, 10.5])


# The panel.


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("transformers", [0, 1, 2])
def test_panel_has_a_row_for_the_input_and_each_transformer(
  transformers, channels
):
  picture = picture_of(4, transformers, channels)
  assert picture.dtype == np.uint8
  assert picture.shape == (100 * (1 + transformers) + 75, 430, 3)
  # The random images, row by row, are not blank.
  row = picture[40 : 40 + 100 * (1 + transformers)]
  for part in np.split(row, 1 + transformers):
    assert part[20:80, 60:].std() > 40
  coloured = np.ptp(picture[50:100].astype(int), axis=-1) > 60
  if channels == 3:
    assert coloured.mean() > 0.2
  else:
    assert coloured.mean() < 0.05 + 0.05 * transformers  # the outlines alone


@pytest.mark.parametrize("transformers", [0, 1, 2])
def test_panel_outlines_each_transformer_in_its_colour(transformers):
  picture = picture_of(2, transformers)[:140]
  for k, colour in enumerate(_OUTLINES):
    rgb = np.array(matplotlib.colors.to_rgb(colour)) * 255
    found = (distance(picture, rgb) <= 1).sum()
    assert (found > 30) == (k < transformers)


def test_panel_draws_the_outline_where_the_grid_looks():
  """In a half-size centred window, on black: the line makes its frame."""
  theta = np.array([0.5, 0, 0, 0, 0.5, 0], np.float32)
  images = np.zeros((1, 40, 40, 1), np.float32)
  grid = grid_of(theta, (40, 40))[None, None]
  warps = {"st": warp_of(grid, images, images[None])}
  picture = panel(images, captions_of([0], [0]), warps, "step")[:135]
  rgb = np.array(matplotlib.colors.to_rgb(_OUTLINES[0])) * 255
  line = distance(picture, rgb) < 40
  black = (picture == 0).all(axis=-1)
  rows, columns = np.flatnonzero(line.any(1)), np.flatnonzero(line.any(0))
  top = np.flatnonzero(black.mean(axis=1) > 0.3)[0]
  wide = np.flatnonzero(black[top + 5])
  width = np.ptp(wide) + 1
  # The frame takes the middle half, the dot at its top left a little more.
  assert np.ptp(columns) == pytest.approx(width / 2, abs=5)
  assert np.ptp(rows) == pytest.approx(width / 2, abs=5)
  assert rows.mean() == pytest.approx(top + width / 2, abs=4)
  assert columns.mean() == pytest.approx(wide.mean(), abs=4)


@pytest.mark.parametrize("right", [True, False])
def test_panel_colours_the_answer(right):
  label = picture_of(3, 1, right=np.array([right] * 3))[-30:]
  expected, other = (BLUE, VERMILION) if right else (VERMILION, BLUE)
  assert (distance(label, expected) < 8).sum() > 5
  assert (distance(label, other) < 60).sum() == 0


@pytest.mark.parametrize("channels", [1, 3])
def test_panel_takes_values_beyond_the_unit_interval(channels, caplog):
  """Cubic kernels overshoot; matplotlib would warn on standard error."""
  ramp = np.linspace(-0.2, 1.2, 64, dtype=np.float32).reshape(1, 8, 8, 1)
  images = np.repeat(ramp, channels, axis=-1)
  one, other = (
    panel(x, captions_of([0], [0]), {}, "a")
    for x in (images, np.clip(images, 0, 1))
  )
  np.testing.assert_array_equal(one, other)
  assert not caplog.records


def test_panel_is_the_same_every_time():
  np.testing.assert_array_equal(picture_of(), picture_of())
  assert np.any(picture_of(title="step 1") != picture_of(title="step 2"))


def test_values_of_another_range_are_scaled():
  image = np.linspace(-3, 5, 64).reshape(8, 8, 1)
  np.testing.assert_allclose(
    to_picture(image), to_picture((image + 3) / 8), atol=0.05
  )


def test_two_channels_are_told_apart_by_colour():
  picture = to_picture(np.eye(2)[None])  # one pixel of each channel
  orange, blue = picture[0]
  assert orange[0] > orange[1] > orange[2]
  assert blue[2] > blue[1] > blue[0]


def test_a_volume_is_seen_along_depth():
  volume = np.zeros((3, 4, 5, 1), np.float32)
  volume[2, 1, 3] = 1
  picture = to_picture(volume)
  assert picture.shape == (4, 5)
  assert np.argwhere(picture).tolist() == [[1, 3]]


def test_the_region_in_a_volume_is_the_edges_of_a_body():
  grid = np.asarray(stn.regular_grid((2, 3, 4)))
  first, lines = region_lines(grid, (2, 3, 4))
  assert first.tolist() == [0, 0]
  assert len(lines) == 12
  corners = {tuple(line[i]) for line in lines for i in (0, -1)}
  assert corners == {(0, 0), (3, 0), (0, 2), (3, 2)}


@pytest.mark.parametrize("size", [(12,), (8, 8), (6, 6, 6)], ids=str)
def test_a_picture_has_one_size_wherever_the_grid_looks(size):
  """The frames of an animation are of one size."""
  images = np.random.default_rng(0).uniform(size=(2, *size, 1))
  grid = np.stack([np.asarray(stn.regular_grid(size))[None]] * 2)
  shapes = set()
  for scale, shift in ((1, 0), (0.2, 0.9), (3, -2)):
    warps = {"st": warp_of(scale * grid + shift, images, images[:, None])}
    picture = panel(images, captions_of([0, 1], [0, 0]), warps, "step")
    shapes.add(picture.shape)
  assert shapes == {(275, 230, 3)}


@pytest.mark.parametrize("shape", [(4, 4, 16), (8, 8, 1)])
def test_a_transformer_of_feature_maps_has_its_input_above_its_output(shape):
  """Also where the maps are shaped as the images are."""
  images = np.zeros((2, 8, 8, 1), np.float32)
  maps = np.random.default_rng(0).uniform(size=(2, *shape))
  grid = np.stack([np.asarray(stn.regular_grid(shape[:2]))[None]] * 2)
  first = np.stack([np.asarray(stn.regular_grid((8, 8)))[None]] * 2)
  warps = {
    "st": warp_of(first, images, images[:, None]),
    "block/st": warp_of(grid, maps, maps[:, None]),
  }
  picture = panel(images, captions_of([0, 1], [0, 0]), warps, "step")
  assert picture.shape[0] == 100 * 4 + 75  # input, output, map, output


def test_rows_beyond_the_twelfth_are_left_out():
  images = np.zeros((1, 8, 8, 1), np.float32)
  grid = np.stack([np.asarray(stn.regular_grid((8, 8)))] * 20)[None]
  warps = {"st": warp_of(grid, images, np.stack([images[0]] * 20)[None])}
  picture = panel(images, captions_of([0], [0]), warps, "step")
  assert picture.shape[0] == 12 * 100 + 75


def test_the_true_box_is_drawn():
  images = np.zeros((1, 20, 20, 1), np.float32)
  captions = captions_of([0], [0])
  without = panel(images, captions, {}, "a")
  captions[0].box = np.array([-0.5, -0.5, 0.5, 0.5])
  assert (panel(images, captions, {}, "a") != without).any()


# Files.


def test_png_is_near_the_picture_and_light(panels):
  for picture in panels:
    png = encode_png(picture)
    assert len(png) < 40_000
    error = np.abs(decoded(png).astype(int) - picture)
    assert error.max() <= 8
    assert error.mean() < 1
    assert not error[0, 0].any()  # the background stays white


def test_png_keeps_the_colours_of_answers(panels):
  """They are few pixels: a palette by frequency would lose them."""
  picture = panels[2]
  again = decoded(encode_png(picture))
  outline = np.array(matplotlib.colors.to_rgb(_OUTLINES[0])) * 255
  for colour in (BLUE, VERMILION, outline.round()):
    pixels = distance(picture, colour) == 0
    assert pixels.any()
    assert distance(again, colour)[pixels].max() <= 8


def test_png_of_a_colour_picture_is_near_it():
  y, x = np.mgrid[:64, :64] * 4
  picture = np.stack([y, x, 255 - (x + y) // 2], -1).astype(np.uint8)
  error = np.abs(decoded(encode_png(picture)).astype(int) - picture)
  assert error.max() < 48
  assert error.mean() < 12


def test_png_of_few_colours_is_exact():
  rng = np.random.default_rng(0)
  colours = rng.integers(0, 256, (20, 3), dtype=np.uint8)
  picture = colours[rng.integers(0, 20, (30, 40))]
  np.testing.assert_array_equal(decoded(encode_png(picture)), picture)


def test_gif_has_every_frame_and_lingers_on_the_last(panels, tmp_path):
  paths = []
  for step, picture in enumerate(panels):
    paths.append(tmp_path / f"step_{step}.png")
    paths[-1].write_bytes(encode_png(picture))
  path = tmp_path / "all.gif"
  write_gif(paths, path, seconds=0.25)
  assert path.stat().st_size < 36_000 * len(panels)
  with PIL.Image.open(path) as gif:
    assert gif.n_frames == 5
    assert gif.info["loop"] == 0  # endless
    durations = []
    for frame, picture in enumerate(panels):
      gif.seek(frame)
      durations.append(gif.info["duration"])
      shown = np.asarray(gif.convert("RGB"))
      assert shown.shape == picture.shape
      error = np.abs(shown.astype(int) - picture)
      assert error.mean() < 1
      for colour in (BLUE, VERMILION):
        pixels = distance(picture, colour) == 0
        assert pixels.any() or frame in (0, 4)
        if pixels.any():
          assert distance(shown, colour)[pixels].max() <= 24
  assert durations == [250] * 4 + [1000]


def test_gif_of_one_frame(tmp_path):
  frame = tmp_path / "a.png"
  frame.write_bytes(encode_png(np.full((4, 6, 3), 200, np.uint8)))
  write_gif([frame], tmp_path / "a.gif")
  with PIL.Image.open(tmp_path / "a.gif") as gif:
    assert (gif.n_frames, gif.size) == (1, (6, 4))
    assert np.asarray(gif.convert("RGB")).max() == 200


def test_gif_of_no_frames_is_an_error(tmp_path):
  path = pathlib.Path(tmp_path) / "a.gif"
  with pytest.raises(ValueError, match="`frames` must not be empty"):
    write_gif([], path)
  assert not path.exists()
