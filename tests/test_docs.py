"""The code of docs/*.md runs, its tables are true, its links lead somewhere."""

import importlib.util
import json
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stn
from configs import common
from stn import data, models, zoo
from stn.data.prepare import PREPARERS
from stn.fields import flatten
from stn.training.warps import Watch

ROOT = pathlib.Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = {path.stem: path.read_text() for path in sorted(DOCS.glob("*.md"))}
PICTURES = sorted((DOCS / "pictures").glob("*.png"))
TABLES = (stn.TRANSFORMS, stn.KERNELS, stn.PADDINGS, stn.GRADIENTS)


def run(page):
  """What the blocks of a page define."""
  names = {}
  for block in re.findall(r"```python\n(.*?)```", PAGES[page], re.DOTALL):
    exec(block, names)
  return names


def rows(page, heading):
  """The table below a heading: name -> the other cells; repeats are joined."""
  text = f"\n{PAGES[page]}".split(f"\n{heading}\n", 1)[1].split("\n#", 1)[0]
  table = {}
  for name, cells in re.findall(r"^\| `(\w+)`[^|]* \| (.+) \|$", text, re.M):
    table.setdefault(name, []).extend(cells.split(" | "))
  return table


def load_file(path):
  """The module of a file that is in no package."""
  spec = importlib.util.spec_from_file_location(path.stem, path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


@pytest.fixture(autouse=True)
def _same_tables():
  """The rows that blocks add are taken away again."""
  before = [dict(table) for table in TABLES]
  yield
  for table, rows_before in zip(TABLES, before, strict=True):
    table.clear()
    table.update(rows_before)


# export.md


def test_the_table_of_trained_networks_is_theirs():
  shown = rows("export", "## A run, as files")
  assert list(shown) == zoo.names()
  for name, (size, about, error) in shown.items():
    network = zoo.load(name)
    card = network.card
    assert size == "x".join(map(str, network.input_shape)).removesuffix("x1")
    what = card["distortion"].replace("none", card["dataset"])
    assert about == f"{what.upper()}, {card['transform']}"
    assert error == f"{card['value']:.2f} %"


# transforms.md


def test_the_code_of_transforms_does_what_it_says():
  names = run("transforms")
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
  families = rows("transforms", "# Families of transforms")
  assert set(families) == set(stn.TRANSFORMS)
  for name, (counts, _) in families.items():
    for ndim, count in enumerate(counts.split(" / "), start=1):
      if count == "-":
        with pytest.raises(ValueError, match="`ndim`"):
          stn.get_transform(name, ndim=ndim)
      else:
        assert stn.get_transform(name, ndim=ndim).num_params == int(count)


# sampling.md


@pytest.mark.long
def test_the_code_of_sampling_does_what_it_says():
  names = run("sampling")
  kernel = stn.KERNELS["mitchell"]
  fraction = np.linspace(0, 0.99, 50, dtype=np.float32)
  weights = kernel.fn(jnp.abs(fraction - np.arange(-1, 3)[:, None]))
  np.testing.assert_allclose(weights.sum(0), 1, rtol=1e-6)
  np.testing.assert_allclose(kernel.fn(jnp.arange(3.0)), [8 / 9, 1 / 18, 0])
  assert names["enlarged"].shape == (16, 18, 3)
  exact, wide, multiscale = names["slopes"]
  assert not exact.any()
  assert wide[0] > 0
  assert multiscale[0] > 0
  assert names["thumbnail"].shape == (2, 2, 3)


@pytest.mark.long
def test_the_table_of_kernels_is_complete_and_true():
  kernels = rows("sampling", "## Kernels")
  assert set(kernels) == set(stn.KERNELS)
  for name, (radius, counts, _, degree, _) in kernels.items():
    assert float(radius) == stn.KERNELS[name].radius
    taps = round(2 * float(radius))
    assert counts == " / ".join(str(taps**ndim) for ndim in (1, 2, 3))
    # Of the highest degree, and no higher, away from the edges.
    pixel = np.arange(41) - 20.0
    x = np.array([-0.3, 0.1, 0.26, 0.4])
    grid = stn.pixel_to_normalised(jnp.asarray(x + 20, jnp.float32), 41)
    for power in (int(degree), int(degree) + 1):
      image = (pixel**power)[:, None].astype(np.float32)
      warped = stn.grid_sample(image, grid[:, None], method=name)[:, 0]
      close = np.allclose(warped, x**power, atol=2e-3)
      assert close == (power == int(degree)), (name, power)


def test_the_table_of_paddings_is_complete_and_true():
  paddings = rows("sampling", "## Paddings")
  assert set(paddings) == set(stn.PADDINGS)
  image = np.arange(1, 5, dtype=np.float32)[:, None]  # a b c d
  letters = {"0": 0.0, "v": 9.0, **dict(zip("abcd", image[:, 0], strict=True))}
  pixels = jnp.arange(-2.0, 6.0)
  for name, cells in paddings.items():
    for align_corners in (False, True)[: len(cells) // 6]:
      grid = stn.pixel_to_normalised(pixels, 4, align_corners=align_corners)
      warped = stn.grid_sample(
        image,
        grid[:, None],
        padding_mode=name,
        align_corners=align_corners,
        **({"fill_value": 9.0} if name == "fill" else {}),
      )
      expected = [letters[c] for c in cells[6 * align_corners].split()]
      np.testing.assert_allclose(warped[:, 0], expected, atol=1e-5)


def test_the_table_of_gradients_is_complete():
  assert set(rows("sampling", "## Gradients")) == set(stn.GRADIENTS)


# conventions.md


def test_the_code_of_conventions_does_what_it_says():
  names = run("conventions")
  image, picture = names["image"], names["picture"]
  np.testing.assert_allclose(picture[:, :3], image[:, 1:])
  assert not picture[:, 3].any()


# your_loop.md


@pytest.mark.long
def test_the_code_of_your_loop_does_what_it_says():
  names = run("your_loop")
  assert names["losses"][-1] < names["losses"][0]
  head = names["params"]["params"]["SpatialTransformer_0"]["localisation_head"]
  assert all(leaf.any() for leaf in jax.tree.leaves(head))  # it has moved
  assert names["crops"].shape == (32, 14, 14, 1)
  np.testing.assert_array_equal(names["same"], names["images"])
  assert names["warped"].dtype == jnp.bfloat16
  assert names["warp"].theta.dtype == names["warp"].grid.dtype == jnp.float32
  assert names["png"][1:4] == b"PNG"
  assert set(names["statistics"]) == {"outside", "area", "spread"}


def test_the_seeds_are_those_of_the_results():
  """The table is what benchmarks/bench_robustness.py prints of its lines."""
  table = PAGES["training"].split("<!-- seeds -->")[1].split("<!-- /seeds")[0]
  file = ROOT / "results/robustness/mnist_defaults.jsonl"
  lines = [json.loads(line) for line in file.read_text().splitlines()]
  bench = load_file(ROOT / "benchmarks/bench_robustness.py")
  assert table.strip() == bench.table(lines)
  assert not any(line.get("problem") for line in lines)


# Names.


def names_of(page, field):
  """Those in the row of a field in a table of a page."""
  [row] = re.findall(rf"^\| `{field}`.* \| (.*) \|$", PAGES[page], re.M)
  return set(re.findall(r"\w+", row))


def test_the_names_of_data_and_models_are_listed():
  assert names_of("your_data", "data.distortion") == set(data.DISTORTIONS)
  compositions = names_of("your_data", "data.composition")
  assert compositions == {"single", *data.COMPOSITIONS}
  assert {*data.SOURCES, *PREPARERS} <= names_of("your_data", "data.name")
  assert names_of("your_model", "model.name") == set(models.MODELS)
  localisations = names_of("your_model", "model.localisation")
  assert localisations == {"shared", *models.LOCALISATIONS}


# Pictures and links.


def test_every_picture_is_made_shown_and_small():
  pytest.importorskip("matplotlib")
  gallery = load_file(DOCS / "gallery.py")
  assert {path.stem for path in PICTURES} == set(gallery.FIGURES)
  for path in PICTURES:
    assert f"(pictures/{path.name})" in "".join(PAGES.values())
    assert path.stat().st_size < 120_000, path
  assert gallery.render("align_corners")[1:4] == b"PNG"


# training.md


def test_what_to_try_are_fields_of_a_config():
  text = PAGES["training"].split("## What to try")[1].split("\n## ")[0]
  fields = re.findall(r"^\| `([\w.]+)` \|", text, re.MULTILINE)
  assert len(fields) > 8
  assert set(fields) < set(flatten(common.get_base().to_dict()))


def test_the_warning_is_what_is_printed():
  [block] = re.findall(r"```text\n(.*?)\n```", PAGES["training"], re.DOTALL)
  still = {"outside": [0.0], "area": [1.0], "spread": [0.0]}
  assert Watch(1000).see(400, {"transformer": still}) == [block]


def github_anchor(heading):
  """Of a heading, as GitHub and documentation sites make it."""
  return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
  for link in re.findall(r"\]\((?!http)([^)]+)\)", PAGES[page]):
    path, _, anchor = link.partition("#")
    target = (DOCS / path).resolve() if path else DOCS / f"{page}.md"
    assert target.exists(), link
    if anchor:
      headings = re.findall(r"^#+ (.+)$", target.read_text(), re.M)
      assert anchor in map(github_anchor, headings), link


def test_every_page_s_code_is_run():
  """Here, in test_migrating, test_export, test_pages or test_..._page."""
  with_code = {page for page, text in PAGES.items() if "```python" in text}
  assert with_code == {
    "conventions",
    "export",
    "migrating",
    "real_images",
    "sampling",
    "sweeps",
    "transforms",
    "your_data",
    "your_loop",
    "your_model",
    "your_task",
  }
