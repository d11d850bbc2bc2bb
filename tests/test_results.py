import importlib
import json
import pathlib
import re
import shlex
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np
import pytest
import scipy.stats

from stn.fields import flatten, parse_value
from stn.results import (
  PUBLISHED,
  add,
  make_row,
  read,
  summarise,
  table_1_to_markdown,
  to_markdown,
)
from stn.results.__main__ import main
from stn.sweeps.config_file import ConfigFile

ROOT = pathlib.Path(__file__).parent.parent

KEYS = [
  "experiment",
  "task",
  "dataset",
  "distortion",
  "model",
  "transform",
  "transformers",
  "iterations",
  "recipe",
  "params",
  "train_samples",
  "metric",
  "unit",
  "seeds",
  "value",
  "interval",
  "error",
  "ci95",
  "samples",
  "seconds",
  "device",
  "commit",
  "setting",
]


COMMANDS = re.findall(
  r"^# .*: ([\d.]+) %\n((?:.*\\\n)*.*)",
  (ROOT / "docs" / "results.md").read_text().partition("## Commands")[2],
  re.MULTILINE,
)


def run_of(**fields):
  """What a run writes to its result.json: of an error rate."""
  value = fields.get("value", 0.8)
  return {
    "experiment": "mnist",
    "task": "classification",
    "dataset": "mnist",
    "distortion": "r",
    "model": "st_cnn",
    "transform": "affine",
    "transformers": 1,
    "iterations": 1,
    "recipe": "adamw",
    "params": 116_696,
    "seed": 0,
    "step": 100,
    "metric": "error",
    "value": value,
    "interval": [0.6434, 0.9943],
    "unit": "%",
    "error": value,
    "ci95": [0.6434, 0.9943],
    "loss": 0.03,
    "samples": 10_000,
    "train_samples": 825_000,
    "seconds": 120.0,
    "population": 1,
    "date": "2026-01-01",
    "device": "a CPU",
    "commit": "0123456789ab",
    "versions": {"jax": "0.10.2"},
    "config": {"seed": 0},
    **fields,
  }


def workdir_of(folder, **fields):
  """A finished run."""
  folder.mkdir()
  run = run_of(**fields)
  (folder / "result.json").write_text(json.dumps(run))
  (folder / "config.json").write_text("{}")
  (folder / "metrics.jsonl").write_text('{"step": 1}\n')
  return folder


def unfinished(folder):
  folder.mkdir()
  (folder / "config.json").write_text("{}")
  (folder / "metrics.jsonl").write_text('{"step": 1}\n')
  return folder


def write_lines(path, *runs):
  path.write_text("".join(json.dumps(run) + "\n" for run in runs))
  return path


# Reading.


def test_reads_workdirs_files_and_folders(tmp_path):
  workdir = workdir_of(tmp_path / "run", seed=7)
  folder = tmp_path / "results"
  folder.mkdir()
  file = write_lines(folder / "b.jsonl", run_of(seed=1), run_of(seed=2))
  write_lines(folder / "a.jsonl", run_of(seed=3))
  (folder / "notes.txt").write_text("not a result")
  seeds = [run["seed"] for run in read([workdir, file, folder])]
  assert seeds == [7, 1, 2, 3, 1, 2]
  assert read([workdir]) == [run_of(seed=7)]


def test_nothing_at_a_path_is_an_error(tmp_path):
  for path in (tmp_path, tmp_path / "nowhere"):
    with pytest.raises(FileNotFoundError, match="`path` must be") as caught:
      read([path])
    assert str(path) in str(caught.value)


def test_an_unfinished_run_is_an_error(tmp_path):
  """Though its folder holds JSON lines: the metrics."""
  path = unfinished(tmp_path / "run")
  with pytest.raises(FileNotFoundError, match="must be a finished run"):
    read([path])


# Averaging.


@pytest.mark.parametrize("number", range(2, 11))
def test_averages_over_seeds_with_student_s_interval(number):
  rng = np.random.default_rng(number)
  errors = rng.uniform(0.7, 0.9, number).round(4).tolist()
  runs = [
    run_of(seed=seed, value=error, seconds=100.0 + seed)
    for seed, error in enumerate(errors)
  ]
  [row] = summarise(runs)
  assert row["seeds"] == number
  assert row["value"] == row["error"]
  assert row["interval"] == row["ci95"]
  assert row["error"] == pytest.approx(np.mean(errors), abs=1e-4)
  assert row["seconds"] == pytest.approx(100 + (number - 1) / 2, abs=0.06)
  expected = scipy.stats.t.interval(
    0.95, number - 1, np.mean(errors), scipy.stats.sem(errors)
  )
  assert row["ci95"] == pytest.approx([max(0, x) for x in expected], abs=3e-4)


def test_the_interval_of_many_seeds_is_not_too_narrow():
  errors = np.random.default_rng(0).uniform(0.7, 0.9, 25).tolist()
  [row] = summarise([run_of(seed=i, value=e) for i, e in enumerate(errors)])
  low, high = scipy.stats.t.interval(
    0.95, 24, np.mean(errors), scipy.stats.sem(errors)
  )
  assert row["ci95"] == pytest.approx([low, high], abs=5e-3)
  assert row["ci95"][1] - row["ci95"][0] >= high - low


def test_an_interval_does_not_go_below_zero():
  [row] = summarise([run_of(seed=0, value=0.1), run_of(seed=1, value=1.0)])
  assert row["ci95"][0] == 0


def test_a_single_seed_keeps_its_own_interval():
  [row] = summarise([run_of()])
  assert (row["error"], row["ci95"]) == (0.8, [0.6434, 0.9943])
  assert row["seeds"] == 1


@pytest.mark.parametrize(
  ("name", "value"),
  [
    ("experiment", "other"),
    ("task", "sequence"),
    ("metric", "rmse"),
    ("dataset", "mnist_5k"),
    ("distortion", "rts"),
    ("model", "st_fcn"),
    ("transform", "tps"),
    ("recipe", "paper"),
    ("params", 5),
    ("device", "a GPU"),
  ],
)
def test_runs_that_differ_in_more_than_their_seed_are_kept_apart(name, value):
  rows = summarise([run_of(), run_of(seed=1, **{name: value})])
  assert len(rows) == 2
  assert {row[name] for row in rows} == {run_of()[name], value}


def rates_of(*rates, **fields):
  """Runs with these learning rates."""
  return [
    run_of(
      seed=seed,
      value=rate,
      config={"seed": seed, "optim": {"lr": rate}, "num_devices": seed},
      **fields,
    )
    for seed, rate in enumerate(rates)
  ]


def test_runs_with_other_settings_are_kept_apart_and_told_apart():
  runs = [*rates_of(0.1, 0.1, 0.3), *rates_of(0.1, recipe="long")]
  rows = summarise(runs)
  assert rows == summarise(runs[::-1])
  assert [(r["setting"], r["seeds"], r["value"]) for r in rows] == [
    ({"optim.lr": 0.1}, 2, 0.1),
    ({"optim.lr": 0.3}, 1, 0.3),
    ({}, 1, 0.1),
  ]
  models = [cells(line)[3] for line in to_markdown(rows).splitlines()[2:]]
  assert models == [
    "st_cnn affine, lr=0.1",
    "st_cnn affine, lr=0.3",
    "st_cnn affine",
  ]


def test_a_field_that_older_runs_lack_does_not_keep_them_apart():
  [row] = summarise([run_of(seed=9), *rates_of(0.8)])
  assert (row["seeds"], row["setting"]) == (2, {})
  rows = summarise([run_of(seed=9), *rates_of(0.1, 0.3)])
  assert [row["setting"] for row in rows] == [
    {"optim.lr": 0.1},
    {"optim.lr": 0.3},
    {},
  ]


def test_a_field_that_is_none_does_not_keep_them_apart():
  configs = [{"optim": {"localisation_warmup": x}} for x in (0.0, None)]
  runs = [run_of(seed=i, config=config) for i, config in enumerate(configs)]
  [row] = summarise(runs)
  assert (row["seeds"], row["setting"]) == (2, {})


def test_an_option_that_is_left_out_differs_from_one_that_is_set():
  configs = [
    {"task": {"name": "classification"}},
    {"task": {"name": "classification", "label_smoothing": 0.1}},
    {"task": {"name": "classification", "label_smoothing": 0.0}},
  ]
  runs = [run_of(seed=i, config=config) for i, config in enumerate(configs)]
  rows = summarise(runs)
  assert [(row["setting"], row["seeds"]) for row in rows] == [
    ({"task.label_smoothing": 0.0}, 2),
    ({"task.label_smoothing": 0.1}, 1),
  ]
  options = {"model": {"transform_options": {"size": 3}}}
  rows = summarise([run_of(), run_of(seed=1, config=options)])
  assert [row["setting"] for row in rows] == [
    {"model.transform_options.size": 3},
    {},
  ]


def test_a_seed_counts_once():
  """Also where a folder and a file of results hold the same run."""
  [row] = summarise([run_of(value=1.0), run_of(value=2.0)])
  assert (row["seeds"], row["value"]) == (1, 1.5)
  assert row["interval"] == run_of()["interval"]


def test_co_localisation_is_averaged_over_classes():
  runs = [run_of(config={"data": {"classes": [digit]}}) for digit in range(3)]
  [row] = summarise(runs)
  assert (row["seeds"], row["setting"]) == (3, {})


def test_commits_are_all_named_once():
  runs = [run_of(seed=i, commit=commit) for i, commit in enumerate("212")]
  [row] = summarise(runs)
  assert (row["device"], row["commit"]) == ("a CPU", "1, 2")


def test_rows_are_in_order_and_do_not_depend_on_that_of_the_runs():
  runs = [
    run_of(distortion=distortion, recipe=recipe, model=model, transform=None)
    for distortion in ("r", "rts")
    for recipe in ("adamw", "paper")
    for model in ("cnn", "fcn")
  ]
  rows = summarise(runs)
  assert rows == summarise(runs[::-1])
  found = [(row["distortion"], row["recipe"], row["model"]) for row in rows]
  assert found == sorted(found)


# The table.


def cells(line):
  return [cell.strip() for cell in line.strip("|").split("|")]


def test_markdown_shows_our_value_beside_the_published_one():
  header, rule, line = to_markdown(summarise([run_of()])).splitlines()
  assert len(cells(header)) == len(cells(rule)) == len(cells(line))
  assert set(rule) == {"|", "-"}
  row = dict(zip(cells(header), cells(line), strict=True))
  assert row["test (95 % interval)"] == "error **0.80** % (0.64 to 0.99)"
  published = PUBLISHED["mnist", "mnist", "r", "st_cnn", "affine", 1]
  assert row["published"] == str(published) == "0.7"
  assert row["parameters"] == "116,696"
  assert row["model"] == "st_cnn affine"
  assert row["time per run"] == "120 s, a CPU"


def test_table_1_has_the_lowest_error_beside_the_published_one():
  rows = summarise(
    [
      run_of(value=0.9),
      run_of(value=0.7, recipe="long"),
      run_of(value=0.2, dataset="mnist_5k"),  # another test set
      run_of(value=0.3, transformers=2),  # another network
      run_of(value=0.91, distortion="rts", transform="tps"),
      run_of(value=0.5, model="st_cnn_bn", distortion="tc"),
    ]
  )
  assert table_1_to_markdown(rows).splitlines()[2:] == [
    "| st_cnn affine | "
    "**0.70** (0.7) | - (0.5) | - (0.8) | - (1.2) | - (1.7) |",
    "| st_cnn tps | - (0.7) | 0.91 (0.5) | - (0.8) | - (1.1) | - |",
    "| st_cnn_bn affine | - (0.61) | - (0.54) | - | - | 0.50 |",
  ]


def test_a_metric_that_is_no_error_rate_has_no_error():
  fields = {"metric": "rmse", "unit": "", "error": None, "ci95": None}
  rows = summarise([run_of(**fields), run_of(seed=1, **fields)])
  assert (rows[0]["value"], rows[0]["error"], rows[0]["ci95"]) == (
    0.8,
    None,
    None,
  )
  assert "rmse **0.80** (" in to_markdown(rows)


@pytest.mark.parametrize("rate", [True, False])
def test_the_row_of_a_run_is_what_the_table_reads(rate):
  from configs import mnist

  row = make_row(
    {"error": 0.008, "error_ci95": [0.006, 0.01], "loss": 0.1, "samples": 9},
    metric="error",
    rate=rate,
    config=mnist.get_config(),
    transform="affine",
    transformers=1,
    params=116_696,
    step=100,
    train_samples=825_000,
    seconds=120.0,
    environment={"device": "a CPU", "commit": "c", "versions": {}},
  )
  assert list(row) == list(run_of())
  assert (row["value"], row["unit"]) == ((0.8, "%") if rate else (0.008, ""))
  assert row["error"] == (0.8 if rate else None)
  assert list(summarise([row])[0]) == KEYS


@pytest.mark.parametrize(
  "fields",
  [
    {"dataset": "mnist_5k"},
    {"distortion": "none"},
    {"transform": "bspline"},
    {"experiment": "mnist_rot"},
    {"transformers": 2},
  ],
)
def test_the_published_figure_stands_beside_the_same_experiment_alone(fields):
  header, _, line = to_markdown(summarise([run_of(**fields)])).splitlines()
  assert dict(zip(cells(header), cells(line), strict=True))["published"] == ""


# By experiment, what stands after the colon of --config.
OF_PUBLISHED = {
  "mnist": [
    *product(
      [f"distortion={name}," for name in ("r", "rts", "p", "e", "tc")],
      [f"model={name}" for name in ("fcn", "cnn", "st_fcn", "st_cnn")],
    ),
    *product(
      ["distortion=r,", "distortion=rts,"],
      ["model=cnn_bn", "model=st_cnn_bn"],
    ),
  ],
  "mnist_addition": product(
    [f"model={name}" for name in ("fcn", "cnn", "st_fcn", "st_cnn", "staged")]
  ),
  "mnist_rot": product(
    ["augmentation=yes,", "augmentation=no,"],
    ["model=cnn_bn", "model=st_cnn_bn"],
  ),
  "sim2mnist": [("model=cnn_bn",), ("model=st_cnn_bn",)],
  "cluttered": [("model=cnn",), ("model=st_cnn",)],
  "colocalisation": [("data=mnist",)],
  "svhn": [("size=64",), ("size=128",)],
  "cub": [("",)],
  "gtsrb": [("size=small",), ("size=large",)],
}


def test_composed_warps_have_a_row_of_their_own():
  runs = [run_of(), run_of(iterations=2, seed=1)]
  header, _, *lines = to_markdown(summarise(runs)).splitlines()
  place = cells(header).index("model")
  assert [cells(line)[place] for line in lines] == [
    "st_cnn affine",
    "st_cnn affine, 2 warps",
  ]


def test_a_row_that_does_not_say_its_iterations_has_those_of_its_config(
  tmp_path,
):
  rows = [run_of() | {"config": {"model": {"iterations": 4}}}, run_of()]
  for row in rows:
    del row["iterations"]
  file = tmp_path / "a.jsonl"
  file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
  assert [row["iterations"] for row in read([file])] == [4, 1]


def test_a_config_trains_what_a_published_figure_is_of():
  trained = {
    (c.experiment, c.data.name, c.data.distortion, c.model.name)
    for name, args in OF_PUBLISHED.items()
    for c in (
      importlib.import_module(f"configs.{name}").get_config("".join(arg))
      for arg in args
    )
  }
  assert {key[:4] for key in PUBLISHED} == trained


def test_a_longer_training_has_a_row_of_its_own():
  runs = [run_of(), run_of(seed=1, train_samples=5_500_000)]
  header, _, *lines = to_markdown(summarise(runs)).splitlines()
  place = cells(header).index("examples")
  assert [cells(line)[place] for line in lines] == ["0.82 M", "5.50 M"]


def test_several_transformers_are_counted():
  rows = summarise([run_of(transformers=2), run_of(seed=1)])
  models = [cells(line)[3] for line in to_markdown(rows).splitlines()[2:]]
  assert sorted(models) == ["st_cnn 2 x affine", "st_cnn affine"]


def test_a_model_without_transformer_is_named_alone():
  rows = summarise([run_of(model="cnn", transform=None, transformers=0)])
  line = to_markdown(rows).splitlines()[-1]
  assert cells(line)[3] == "cnn"
  assert "| 1.2 |" in line


# Adding.


def test_add_appends_to_the_file_of_the_experiment(tmp_path):
  folder = tmp_path / "results"
  first = workdir_of(tmp_path / "a", seed=0)
  second = workdir_of(tmp_path / "b", seed=1)
  third = workdir_of(tmp_path / "c", experiment="quickstart")
  assert add([first], folder) == [folder / "mnist.jsonl"]
  files = add([second, third], folder)
  assert files == [folder / "mnist.jsonl", folder / "quickstart.jsonl"]
  assert read([folder / "mnist.jsonl"]) == [run_of(seed=0), run_of(seed=1)]
  assert read([folder / "quickstart.jsonl"]) == [
    run_of(experiment="quickstart")
  ]


def test_add_refuses_a_duplicate_and_adds_nothing(tmp_path):
  folder = tmp_path / "results"
  first = workdir_of(tmp_path / "a")
  add([first], folder)
  before = (folder / "mnist.jsonl").read_bytes()
  fresh = workdir_of(tmp_path / "b", seed=1)
  same = workdir_of(tmp_path / "c", value=0.5, commit="another")
  for paths in ([fresh, same], [fresh, fresh], [same]):
    with pytest.raises(ValueError, match="already holds a run of st_cnn on r"):
      add(paths, folder)
    assert (folder / "mnist.jsonl").read_bytes() == before


def test_add_keeps_a_run_with_another_setting(tmp_path):
  folder = tmp_path / "results"
  for name, rate in (("a", 0.1), ("b", 0.3)):
    add([workdir_of(tmp_path / name, **rates_of(rate)[0])], folder)
  with pytest.raises(ValueError, match="the same config"):
    add([workdir_of(tmp_path / "c", **rates_of(0.3)[0])], folder)
  assert len(read([folder])) == 2


def test_add_keeps_a_run_of_other_classes(tmp_path):
  folder = tmp_path / "results"
  for digit in "12":
    config = {"data": {"classes": [int(digit)]}}
    add([workdir_of(tmp_path / digit, config=config)], folder)
  assert len(read([folder])) == 2


def test_nothing_is_lost_where_several_add(tmp_path):
  workdirs = [workdir_of(tmp_path / str(s), seed=s) for s in range(8)]
  with ThreadPoolExecutor(8) as pool:
    list(pool.map(lambda path: add([path], tmp_path / "results"), workdirs))
  runs = read([tmp_path / "results"])
  assert sorted(run["seed"] for run in runs) == list(range(8))


def test_a_result_without_a_field_is_named(tmp_path):
  workdir = workdir_of(tmp_path / "a")
  run = run_of()
  del run["transformers"]
  (workdir / "result.json").write_text(json.dumps(run))
  with pytest.raises(ValueError, match=r"a/result.json .*'transformers'"):
    read([workdir])


def test_add_keeps_a_run_on_another_device(tmp_path):
  folder = tmp_path / "results"
  add([workdir_of(tmp_path / "a")], folder)
  add([workdir_of(tmp_path / "b", device="a GPU")], folder)
  assert len(read([folder])) == 2


def test_add_refuses_an_unfinished_run_and_adds_nothing(tmp_path):
  folder = tmp_path / "results"
  finished = workdir_of(tmp_path / "a")
  with pytest.raises(FileNotFoundError, match="must be a finished run"):
    add([finished, unfinished(tmp_path / "b")], folder)
  assert not list(folder.glob("*.jsonl"))


# The command line.


def test_json_rows_have_exactly_these_keys(tmp_path, capsys):
  path = write_lines(
    tmp_path / "a.jsonl", run_of(), run_of(model="cnn", transform=None)
  )
  main(["--json", str(path)])
  rows = json.loads(capsys.readouterr().out)
  assert [list(row) for row in rows] == [KEYS, KEYS]
  assert rows == summarise(read([path]))


def test_main_prints_the_table_of_paths(tmp_path, capsys):
  workdir = workdir_of(tmp_path / "a")
  main([str(workdir)])
  assert capsys.readouterr().out == to_markdown(summarise([run_of()])) + "\n"


def test_main_prints_table_1(tmp_path, capsys):
  workdir = workdir_of(tmp_path / "a")
  main(["--table_1", str(workdir)])
  expected = table_1_to_markdown(summarise([run_of()]))
  assert capsys.readouterr().out == expected + "\n"


def test_main_takes_the_folder_results_by_default(
  tmp_path, capsys, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  workdir = workdir_of(tmp_path / "a")
  main(["--add", str(workdir)])
  assert "mnist.jsonl" in capsys.readouterr().out
  main([])
  assert capsys.readouterr().out == to_markdown(summarise([run_of()])) + "\n"


def test_main_says_what_is_wrong_in_a_line(tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  for argv in ([], ["nowhere"], ["--add", "nowhere"]):
    with pytest.raises(SystemExit) as caught:
      main(argv)
    assert str(caught.value).startswith("Error: `path` must be")
  with pytest.raises(SystemExit, match="2"):
    main(["--add"])
  assert "--add needs workdirs" in capsys.readouterr().err


# What the repository says.


def table_of(path, name="results"):
  """What stands between the two lines that mark a table."""
  text = (ROOT / path).read_text()
  start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
  assert text.count(start) == text.count(end) == 1
  return text.partition(start)[2].partition(end)[0].strip()


def test_the_docs_show_what_the_command_prints():
  """`python -m stn.results` prints the table of docs/results.md."""
  expected = to_markdown(summarise(read([ROOT / "results"])))
  assert table_of("docs/results.md") == expected


def test_the_docs_show_table_1():
  """`python -m stn.results --table_1` prints that of docs/results.md."""
  expected = table_1_to_markdown(summarise(read([ROOT / "results"])))
  assert table_of("docs/results.md", "table_1") == expected


def test_other_experiments_are_rows():
  """Each error of the docs' summary is a row's, and so is what is without."""
  rows = summarise(read([ROOT / "results"]))
  lines = table_of("docs/results.md", "others").splitlines()[2:]
  experiment, counted = "", 0
  for line in lines:
    first, _, *cells = [cell.strip(" *`") for cell in line.split("|")[1:-1]]
    experiment = first or experiment
    values = {
      f"{row['value']:.2f}"
      for row in rows
      if row["experiment"] == experiment and row["dataset"] != "mnist_5k"
    }
    for cell in filter(None, cells[:2]):
      assert cell in values, line
      counted += 1
  assert counted > len(lines) > 10


def test_the_readme_shows_rows_of_the_docs():
  header, rule, *rows = table_of("README.md").splitlines()
  everything = table_of("docs/results.md").splitlines()
  assert [header, rule] == everything[:2]
  assert 1 <= len(rows) <= 8
  assert set(rows) <= set(everything[2:])


def test_every_documented_command_is_found():
  assert len(COMMANDS) == 16


@pytest.mark.parametrize(("value", "command"), COMMANDS)
def test_a_documented_command_makes_the_config_of_its_row(value, command):
  python, script, *flags = shlex.split(command.replace("\\\n", ""))
  assert (python, script) == ("python", "train.py")
  settings = dict(flag.removeprefix("--config").split("=", 1) for flag in flags)
  file = ConfigFile.of(
    str(ROOT / settings.pop("")),
    {name[1:]: parse_value(text) for name, text in settings.items()},
  )
  config = flatten(json.loads(file.make().to_json()))
  # None is that of the optimiser, see `stn.training.optim`; it was 0 once.
  assert config["optim.name"] == "adamw"
  warmup = "optim.localisation_warmup"
  assert config[warmup] is None
  rows = [
    row
    for row in read(sorted((ROOT / "results").glob("*.jsonl")))
    if row["experiment"] == config["experiment"]
    and row["dataset"] == config["data.name"]
    and f"{row['value']:.2f}" == value
    and row["seed"] == 0
  ]
  # Fields came and went since; what both have is equal.
  ignored = {"version", "log_every", "num_pictures", "data.data_dir"}
  differences = [
    {
      name: (then[name], config[name])
      for name in then.keys() & config.keys() - ignored
      if then[name] != config[name] and not (name == warmup and then[name] == 0)
    }
    for then in (flatten(row["config"]) for row in rows)
  ]
  assert {} in differences, differences
