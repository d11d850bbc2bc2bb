"""The table, the pictures and the report of a sweep; the report of a run."""

import json
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest

from stn.results import (
  effects_to_markdown,
  read_sweep,
  summarise_effects,
  summarise_sweep,
  sweep_to_markdown,
)
from stn.results.__main__ import main
from stn.results.swept import measured

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


def _write(path, value):
  path.write_text(json.dumps(value))


def make_item(path, setting, error, *, status="done", split="test"):
  """A run's folder, as train.py leaves it."""
  path.mkdir(parents=True)
  _write(path / "item.json", {"overrides": setting})
  if status == "waiting":
    return
  config = {"seed": setting.get("seed", 0), "model": {"name": "<cnn>"}}
  _write(path / "config.json", {**config, **setting})
  about = {"command": ["train.py"], "commit": "abc", "device": "cpu"}
  _write(path / "environment.json", {**about, "versions": {"jax": "0.10"}})
  lines = []
  for step in (0, 2, 4):
    line = {"step": step, "num_steps": 4, "seconds": float(step)}
    metrics = {"loss": 1.0 / (step + 1), "error": error + 0.1 / (step + 1)}
    if step:
      lines.append({**line, "kind": "train", **metrics})
    lines.append({**line, "kind": split, **metrics})
  text = "".join(json.dumps(line) + "\n" for line in lines)
  (path / "metrics.jsonl").write_text(text + '{"step": 5, "ki')  # was killed
  (path / "pictures").mkdir()
  for step in (0, 2, 4):
    pixels = np.full((40, 60, 3), 40 * step, np.uint8)
    PIL.Image.fromarray(pixels).save(path / f"pictures/step_{step:07d}.png")
  if status == "done":
    row = {"metric": "error", "unit": "%", "value": 100 * error}
    row |= {"interval": [0.0, 9.0], "params": 1234, "seconds": 4.0, "step": 4}
    row |= {"experiment": "e", "dataset": "d", "distortion": "r", "date": "t"}
    _write(path / "result.json", {**row, "model": "m", "seed": config["seed"]})
  elif status in ("failed", "pruned"):
    _write(path / f"{status}.json", {"reason": "none", "step": 4, "value": 1})


def make_sweep(path, settings, *, search=None, **about):
  """A sweep's folder of (setting, error, status)."""
  names = [f"item_{i}" for i in range(len(settings))]
  for name, (setting, error, status) in zip(names, settings, strict=True):
    split = "validation" if search else "test"
    make_item(path / name, setting, error, status=status, split=split)
  fields = list(dict.fromkeys(f for s, _, _ in settings for f in s))
  items = {n: s for n, (s, _, _) in zip(names, settings, strict=True)}
  text = {"version": 1, "config": "c.py", "overrides": {}, "fields": fields}
  text |= {"items": {} if search else items, "search": search, **about}
  _write(path / "sweep.json", text)
  return path


@pytest.fixture
def sweep(tmp_path):
  """Two learning rates of three and two seeds, of which one failed."""
  return make_sweep(
    tmp_path / "<s>",
    [
      ({"optim.lr": 0.1, "seed": 0}, 0.04, "done"),
      ({"optim.lr": 0.1, "seed": 1}, 0.06, "done"),
      ({"optim.lr": 0.1, "seed": 2}, 0.08, "done"),
      ({"optim.lr": 0.01, "seed": 0}, 0.03, "done"),
      ({"optim.lr": 0.01, "seed": 1}, 0.03, "failed"),
      ({"optim.lr": 0.001, "seed": 0}, 0.03, "waiting"),
    ],
  )


def test_seeds_are_averaged_and_the_best_is_first(sweep):
  read = read_sweep(sweep)
  rows = summarise_sweep(read)
  assert [row["setting"]["optim.lr"] for row in rows] == [0.01, 0.1, 0.001]
  assert rows[1]["value"] == pytest.approx(6.0)
  assert rows[1]["interval"] == pytest.approx([1.0317, 10.9683], abs=1e-3)
  assert (rows[0]["seeds"], rows[0]["failed"]) == (1, 1)
  assert rows[0]["interval"] == [0.0, 9.0]  # of a single run, its own
  assert (rows[2]["seeds"], rows[2]["waiting"]) == (0, 1)
  lines = sweep_to_markdown(read, rows).splitlines()
  assert lines[0].endswith("6 items, 4 done, 1 failed, 1 waiting")
  assert lines[4] == (
    "| best | 0.01 | 3.00 (0.00 to 9.00) | 1 | 1,234 | 4 | 1 failed |"
  )
  assert lines[6] == "|  | 0.001 | - | 0 | - | - | 1 waiting |"


def test_a_search_is_chosen_by_validation(tmp_path):
  path = make_sweep(
    tmp_path / "s",
    [
      ({"a.x": 1, "b.x": "p"}, 0.05, "done"),
      ({"a.x": 2, "b.x": "q"}, 0.02, "done"),
      ({"a.x": 3, "b.x": "q"}, 0.01, "pruned"),
    ],
    search={"space": {}},
    fields=["a.x", "b.x"],
  )
  read = read_sweep(path)
  rows = summarise_sweep(read)
  assert read.split == "validation"
  assert [row["setting"]["a.x"] for row in rows] == [2, 1, 3]
  assert rows[0]["validation"] == pytest.approx(100 * (0.02 + 0.1 / 5))
  head = sweep_to_markdown(read, rows).splitlines()[2]
  assert head.startswith("|  | a.x | b.x | validation, % | test error, % (95")


def test_effects_are_differences_seed_by_seed(tmp_path):
  """Closed form: differences of -1 and -3 points, whatever the seeds do."""
  path = make_sweep(
    tmp_path / "s",
    [
      ({"seed": 0}, 0.05, "done"),
      ({"seed": 1}, 0.09, "done"),
      ({"seed": 0, "model.n": 2}, 0.04, "done"),
      ({"seed": 1, "model.n": 2}, 0.06, "done"),
      ({"seed": 2, "model.n": 2}, 0.99, "done"),  # the first has no such seed
      ({"seed": 1, "model.n": 4}, 0.10, "done"),
      ({"seed": 1, "model.n": 8}, 0.10, "waiting"),
    ],
  )
  sweep = read_sweep(path)
  rows = summarise_effects(sweep)
  assert [row["setting"] for row in rows] == [
    {},
    {"model.n": 2},
    {"model.n": 4},
  ]
  assert (rows[1]["effect"], rows[1]["seeds"], rows[1]["cost"]) == (-2, 2, 1)
  assert rows[1]["interval"] == pytest.approx([-14.706, 10.706], abs=1e-3)
  assert (rows[2]["effect"], rows[2]["interval"]) == (1, None)
  assert effects_to_markdown(sweep, rows).splitlines()[2:] == [
    "| as it is | 7.00 |  | 2 | 1.00 |",
    "| n 2 | 5.00 | -2.00 (-14.71 to +10.71) | 2 | 1.00 |",
    "| n 4 | 10.00 | +1.00 | 1 | 1.00 |",
  ]


def test_effects_name_what_differs_from_the_first(tmp_path):
  settings = [({"a.n": 1, "b.x": 3}, 0.05, "done")]
  settings += [({"a.n": 1, "b.x": 4}, 0.05, "done")]
  sweep = read_sweep(make_sweep(tmp_path / "s", settings))
  table = effects_to_markdown(sweep, summarise_effects(sweep)).splitlines()
  assert [line.split("|")[1].strip() for line in table[2:]] == [
    "n 1, x 3",
    "x 4",
  ]


def test_an_effect_that_is_sure_is_in_bold(tmp_path, capsys):
  settings = [({"seed": s}, 0.05 + 0.01 * s, "done") for s in range(3)]
  settings += [({"seed": s, "n": 1}, 0.03 + 0.01 * s, "done") for s in range(3)]
  path = make_sweep(tmp_path / "s", settings)
  main([str(path), "--effects"])
  assert "| **-2.00** (-2.00 to -2.00) | 3 |" in capsys.readouterr().out
  main([str(path), "--effects", "--json"])
  assert json.loads(capsys.readouterr().out)[1]["effect"] == -2


def test_effects_need_the_first_setting(tmp_path):
  path = make_sweep(
    tmp_path / "s", [({"n": 1}, 0.0, "waiting"), ({"n": 2}, 0.1, "done")]
  )
  with pytest.raises(SystemExit, match="against the first setting, .*'n': 1"):
    main([str(path), "--effects"])
  with pytest.raises(SystemExit):
    main(["--effects"])


def test_the_command_line_prints_and_writes(sweep, capsys):
  main([str(sweep)])
  shown = capsys.readouterr()
  assert "| best | 0.01 |" in shown.out
  files = {path.name for path in (sweep / "report").iterdir()}
  assert files == {"curves.png", "swept.png", "report.html"}
  main([str(sweep), "--json", "--no_pictures"])
  assert json.loads(capsys.readouterr().out)[0]["seeds"] == 1


@pytest.mark.parametrize(
  "fields",
  [
    [{"lr": 0.1}, {"lr": 10.0}],  # points, a logarithmic axis
    [{"lr": x, "n": n} for x in (1, 2) for n in ("a", "b")],  # a map
    [{"lr": x, "n": "a", "m": True} for x in (1, 2)],  # three pictures
    [{"lr": 1}, {"lr": 2}, {"lr": 1, "n": "a"}],  # a field of some items
    [{"seed": 0}, {"seed": 1}],  # nothing to draw
    [{"lr": 1, "n": 1, "m": 1}, {"lr": 2, "only": "waiting"}],  # and not done
  ],
)
def test_what_was_swept_is_drawn(tmp_path, fields):
  items = [
    (setting, 0.1, "waiting" if "only" in setting else "done")
    for setting in fields
  ]
  path = make_sweep(tmp_path / "s", items)
  main([str(path), f"--out={tmp_path / 'out'}"])
  pictures = sorted(file.name for file in (tmp_path / "out").glob("*.png"))
  only_seeds = "seed" in fields[0]
  assert pictures == (
    ["curves.png"] if only_seeds else ["curves.png", "swept.png"]
  )
  for name in pictures:
    pixels = np.asarray(PIL.Image.open(tmp_path / "out" / name).convert("L"))
    assert pixels.min() < 100
    assert pixels.max() == 255


def test_what_is_drawn_is_what_the_table_says(tmp_path, sweep):
  """By test, the checkpoint that was tested: not the best on test."""
  drawn = {run.name: value for run, value in measured(read_sweep(sweep))}
  assert drawn["item_0"] == pytest.approx(4.0)
  assert len(drawn) == 4  # the failed run has no test
  items = [({"lr": 0.1}, 0.02, "done"), ({"lr": 0.2}, 0.5, "pruned")]
  search = make_sweep(tmp_path / "search", items, search={"space": {}})
  chosen = [value for _, value in measured(read_sweep(search))]
  np.testing.assert_allclose(chosen, [4.0, 52.0])  # the best on validation


def test_importance_is_drawn(tmp_path):
  path = make_sweep(
    tmp_path / "s", [({"lr": 0.1}, 0.1, "done")], search={"space": {}}
  )
  _write(path / "importance.json", {"lr": 1.0})
  main([str(path)])
  assert (path / "report" / "importance.png").is_file()


def _check_alone(text):
  """A page that loads nothing, and whose names are escaped."""
  assert text.startswith("<!DOCTYPE html>")
  assert len(text) < 5_000_000
  assert not re.search(r"""(src|href)=["'](?!data:)""", text)
  assert "url(" not in text
  assert "<cnn>" not in text
  assert "http" not in text


def test_a_report_needs_nothing_else(sweep):
  main([str(sweep)])
  _check_alone((sweep / "report" / "report.html").read_text())


def test_a_report_stays_small(tmp_path):
  """Noise, which does not compress, in 300 large pictures."""
  make_item(tmp_path / "run", {}, 0.1)
  rng = np.random.default_rng(0)
  first = tmp_path / "run/pictures/step_0000000.png"
  noise = rng.integers(0, 256, (300, 1200, 3), np.uint8)
  PIL.Image.fromarray(noise).save(first, compress_level=0)
  for step in range(1, 60):
    shutil.copy(first, first.with_name(f"step_{step:07d}.png"))
  main([str(tmp_path / "run"), "--report"])
  text = (tmp_path / "run" / "report.html").read_text()
  _check_alone(text)
  panels = json.loads(re.search(r'"panels">(.*?)</script>', text).group(1))
  steps = [shown["step"] for shown in panels[0]["steps"]]
  assert (steps[0], steps[-1]) == (0, 59)
  assert 2 < len(steps) < 60


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
@pytest.mark.long
def test_a_browser_shows_the_step_that_the_slider_is_at(sweep):
  main([str(sweep)])
  file = (sweep / "report" / "report.html").resolve().as_uri()

  def look(place):
    return subprocess.run(
      [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--dump-dom",
        f"{file}#{place}",
      ],
      capture_output=True,
      check=True,
      text=True,
      timeout=120,
    ).stdout

  first, last = look("item=0&step=0"), look("")
  assert "<title>Sweep &lt;s&gt;</title>" in first
  assert "<td>3.00 (0.00 to 9.00)</td>" in first
  assert '<output id="at">0</output>' in first
  assert '<output id="at">4</output>' in last
  shown = [re.search(r'id="panel"[^>]*src="([^"]+)"', x) for x in (first, last)]
  assert shown[0].group(1) != shown[1].group(1)
  panels = json.loads(re.search(r'"panels">(.*?)</script>', first).group(1))
  assert shown[0].group(1) == panels[0]["steps"][0]["src"]


def test_the_report_of_an_unfinished_run(tmp_path):
  make_item(tmp_path / "run", {}, 0.1, status="unfinished")
  main([str(tmp_path / "run"), "--report"])
  text = (tmp_path / "run" / "report.html").read_text()
  _check_alone(text)
  assert "Step 4 of 4; 4 s." in text


def _no_matplotlib(monkeypatch):
  monkeypatch.setitem(sys.modules, "matplotlib", None)


def test_tables_need_no_matplotlib(sweep, monkeypatch, capsys):
  _no_matplotlib(monkeypatch)
  main([str(sweep), "--no_pictures"])
  assert "| best |" in capsys.readouterr().out
  with pytest.raises(SystemExit, match=r"stn-jax\[viz\]"):
    main([str(sweep)])


def test_bad_input_is_named(tmp_path, sweep):
  def other(**about):
    text = json.loads((sweep / "sweep.json").read_text())
    _write(sweep / "sweep.json", {**text, **about})

  with pytest.raises(FileNotFoundError, match="no sweep.json in"):
    read_sweep(tmp_path)
  with pytest.raises(SystemExit, match="no config.json in"):
    main([str(tmp_path), "--report"])
  row = json.loads((sweep / "item_0/result.json").read_text())
  _write(sweep / "item_0/result.json", {**row, "metric": "iou"})
  with pytest.raises(SystemExit, match="about one metric; got error, iou"):
    main([str(sweep)])
  other(items={"item_5": {"seed": 0}})
  with pytest.raises(SystemExit, match="No item of .* is done yet, of 1"):
    main([str(sweep)])
  other(version=2)
  with pytest.raises(SystemExit, match="`version` of .* must be 1; got 2"):
    main([str(sweep)])
  make_item(tmp_path / "new", {}, 0.1)
  pathlib.Path(tmp_path / "new/metrics.jsonl").write_text("")
  with pytest.raises(SystemExit, match="has not measured anything yet"):
    main([str(tmp_path / "new"), "--report"])
