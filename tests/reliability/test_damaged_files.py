"""A damaged file is named, or repaired where it can be."""

import json
import pathlib

import pytest
from what_happens import FILES

from configs import quickstart
from stn import results
from stn.files import DamagedFileError, read_json
from stn.results import rows
from stn.sweeps import ConfigFile
from stn.sweeps.folder import Sweep
from stn.training import evaluate_run, train_and_evaluate
from stn.training import workdir as workdir_lib
from stn.training.progress import Progress

ROOT = pathlib.Path(__file__).parents[2]


def _train(folder):
  """Reads what train.py reads of a run, and returns its lines of metrics."""
  if (folder / "metrics.jsonl").exists():
    with Progress(folder, 4, 2, monitor="error", rate=True, shown=False):
      return (folder / "metrics.jsonl").read_text().splitlines()
  return train_and_evaluate(quickstart.get_config(), folder)


def _sweep(folder):
  file = ConfigFile(str(ROOT / "configs" / "quickstart.py"))
  sweep = Sweep(folder, file, [{"seed": 0}])
  sweep.claim()
  sweep.items[0].failed_since(0.0)


def _results(folder):
  if (folder / "sweep.json").exists():
    return results.read_sweep(folder)
  return rows.read([folder])


READERS = {
  "train.py": _train,
  "eval.py": evaluate_run,
  "sweep.py": _sweep,
  "stn.results": _results,
}


@pytest.mark.parametrize(
  ("reader", "name", "wrong", "data", "says"),
  FILES,
  ids=["-".join(row[:3]) for row in FILES],
)
def test_a_damaged_file_is_named_or_repaired(
  reader, name, wrong, data, says, tmp_path
):
  del wrong
  read = READERS[reader]
  path = tmp_path / name
  if reader == "sweep.py":
    _sweep(tmp_path)
    path = tmp_path / ("" if name == "sweep.json" else "seed=0") / name
  elif name == "result.json":
    workdir_lib.claim(quickstart.get_config(), tmp_path)
  path.write_bytes(data)
  if isinstance(says, int):
    assert len(read(tmp_path)) == says
    return
  with pytest.raises(DamagedFileError, match="damaged") as caught:
    read(tmp_path)
  assert str(path) in str(caught.value)
  assert says in str(caught.value)
  assert "emove" in str(caught.value)
  assert path.read_bytes() == data  # for whoever can repair it


def test_a_sweep_is_described_anew(tmp_path):
  _sweep(tmp_path)
  (tmp_path / "sweep.json").unlink()
  _sweep(tmp_path)
  assert read_json(tmp_path / "sweep.json")["fields"] == ["seed"]


def test_a_line_is_added_after_one_without_an_end(tmp_path):
  row = rows.read([ROOT / "results" / "mnist.jsonl"])[0] | {"experiment": "a"}
  (tmp_path / "a.jsonl").write_text(json.dumps(row | {"seed": 0}))
  (tmp_path / "run").mkdir()
  text = json.dumps(row | {"seed": 1})
  (tmp_path / "run" / "result.json").write_text(text)
  results.add([tmp_path / "run"], tmp_path)
  assert [row["seed"] for row in rows.read([tmp_path])] == [0, 1]
