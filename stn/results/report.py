"""Reports: one HTML file of a run or a sweep, which needs nothing else."""

import base64
import html
import io
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from stn._extras import needs
from stn.fields import flatten
from stn.files import read_json
from stn.results.curves import curves, run_curves
from stn.results.page import CSS, SCRIPT
from stn.results.run_files import read_metrics, read_result
from stn.results.sweep import Run, SweepRuns
from stn.results.sweep_table import progress, summarise_sweep, table
from stn.results.swept import importance, swept

# What the pictures of the training may take, in bytes of the file.
_BUDGET = 3_000_000
_WIDTH = 900  # pixels, at most
_RUNS = 12  # of a sweep, whose pictures are shown


def _image_url(data: bytes, kind: str) -> str:
  return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _shrink(file: pathlib.Path) -> str:
  """A picture, small enough to hold many of."""
  with needs("viz", "A picture"):
    import PIL.Image

  with PIL.Image.open(file) as image:
    image = image.convert("RGB")
    if image.width > _WIDTH:
      image = image.resize((_WIDTH, round(image.height * _WIDTH / image.width)))
    encoded = io.BytesIO()
    image.save(encoded, "WEBP", quality=80)
  return _image_url(encoded.getvalue(), "webp")


def _thin(items: Sequence[Any], number: int) -> list[Any]:
  """At most so many, the first and the last among them."""
  if len(items) <= number:
    return list(items)
  last = len(items) - 1
  return [items[round(i * last / (number - 1))] for i in range(number)]


def _panels(runs: Sequence[Run]) -> list[dict[str, Any]]:
  """The pictures of runs over their training, within the budget."""
  files = {
    run.name: sorted((run.path / "pictures").glob("step_*.png")) for run in runs
  }
  files = {name: found for name, found in files.items() if found}
  if not files:
    return []
  each = _BUDGET / len(files)
  panels = []
  for name, found in files.items():
    number = max(2, int(each / len(_shrink(found[-1]))))
    steps = [
      {"step": int(file.stem.removeprefix("step_")), "src": _shrink(file)}
      for file in _thin(found, number)
    ]
    panels.append({"name": name, "steps": steps})
  return panels


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  def line(cells, tag):
    return "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells)

  body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
  return (
    f'<div class="wide"><table><thead><tr>{line(head, "th")}</tr></thead>'
    f"<tbody>{body}</tbody></table></div>"
  )


def _figure(data: bytes | None, text: str) -> str:
  if data is None:
    return ""
  text = html.escape(text)
  return (
    f'<figure><img src="{_image_url(data, "png")}" alt="{text}">'
    f"<figcaption>{text}</figcaption></figure>"
  )


def _fields(fields: Mapping[str, Any]) -> str:
  rows = [[name, json.dumps(value)] for name, value in sorted(fields.items())]
  return _table(["field", "value"], rows)


def _environment(run: Run) -> str:
  file = run.path / "environment.json"
  if not file.is_file():
    return ""
  about = flatten(read_json(file, ["command"]))
  about["command"] = " ".join(about["command"])
  return _section("Environment", _fields(about), closed=True)


def _section(title: str, content: str, closed: bool = False) -> str:
  if not content:
    return ""
  if closed:
    return (
      f"<details><summary>{html.escape(title)}</summary>{content}</details>"
    )
  return f"<section><h2>{html.escape(title)}</h2>{content}</section>"


def _slider(panels: Sequence[dict[str, Any]]) -> str:
  if not panels:
    return ""
  data = json.dumps(panels).replace("<", "\\u003c")
  options = "".join(
    f'<option value="{i}">{html.escape(panel["name"])}</option>'
    for i, panel in enumerate(panels)
  )
  hidden = " hidden" if len(panels) == 1 else ""
  return (
    f'<div id="player"><label{hidden}>Item <select id="item">{options}</select>'
    '</label><label>Step <input id="step" type="range" min="0" value="0">'
    '<output id="at"></output></label><div class="wide">'
    '<img id="panel" alt="Test examples"></div></div>'
    f'<script type="application/json" id="panels">{data}</script>'
    f"<script>{SCRIPT}</script>"
  )


def _page(title: str, lead: str, sections: Sequence[str]) -> str:
  return (
    '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    f"<title>{html.escape(title)}</title><style>{CSS}</style></head><body>"
    f"<h1>{html.escape(title)}</h1><p>{html.escape(lead)}</p>"
    + "\n".join(filter(None, sections))
    + "</body></html>\n"
  )


def write_sweep(sweep: SweepRuns, out: pathlib.Path) -> list[pathlib.Path]:
  """Writes the pictures and the report of a sweep.

  Args:
    sweep: from `read_sweep`.
    out: folder; made if it is not there.

  Returns:
    The files: report.html, curves.png, and swept.png and importance.png where
    there is something to show.

  Raises:
    MissingExtraError: if matplotlib is not installed.
  """
  rows = summarise_sweep(sweep)
  pictures = {
    "curves": curves(sweep, rows),
    "swept": swept(sweep),
    "importance": importance(sweep),
  }
  order = [name for row in rows for name in row["items"]]
  runs = sorted(sweep.runs, key=lambda run: order.index(run.name))
  started = [run for run in runs if (run.path / "config.json").is_file()]
  configs = [flatten(read_json(run.path / "config.json")) for run in started]
  common = {
    name: value
    for name, value in configs[0].items()
    if all(config.get(name) == value for config in configs)
  }
  page = _page(
    f"Sweep {sweep.path.name}",
    f"{progress(sweep)}. Config: {sweep.about['config']}.",
    [
      _section("Results", _table(*table(sweep, rows))),
      _section(
        "Training",
        _figure(
          pictures["curves"],
          "Means over seeds; bands from the smallest to the largest.",
        ),
      ),
      _section(
        "What was swept",
        _figure(pictures["swept"], f"By the {sweep.split} {sweep.metric}.")
        + _figure(pictures["importance"], "What the search found to matter."),
      ),
      _section("Examples", _slider(_panels(_thin(started, _RUNS)))),
      _section("Config of all items", _fields(common), closed=True),
      _environment(started[0]),
    ],
  )
  out.mkdir(parents=True, exist_ok=True)
  files = []
  for name, data in pictures.items():
    if data is not None:
      files.append(out / f"{name}.png")
      files[-1].write_bytes(data)
  files.append(out / "report.html")
  files[-1].write_text(page)
  return files


def _invariance(path: pathlib.Path) -> str:
  """What `eval.py --invariance` left."""
  texts = {
    "invariance.png": "The metric over the pose of the input, and how much of "
    "the variance is due to the pose.",
    "poses.png": "One example in many poses, and what the network sees of it.",
  }
  return "".join(
    _figure((path / name).read_bytes(), text)
    for name, text in texts.items()
    if (path / name).is_file()
  )


def write_run(path: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
  """Writes the report of one run, finished or not.

  Args:
    path: its workdir.
    out: folder; made if it is not there.

  Returns:
    The file, report.html.

  Raises:
    FileNotFoundError: if there is no run.
    ValueError: if nothing was measured yet.
    MissingExtraError: if matplotlib is not installed.
  """
  if not (path / "config.json").is_file():
    raise FileNotFoundError(
      f"`path` must be a run; there is no config.json in {path}."
    )
  lines = read_metrics(path)
  if not lines:
    raise ValueError(f"The run {path} has not measured anything yet.")
  row = read_result(path)
  run = Run(path, {}, "done" if row else "unfinished", row, lines)
  metric = row["metric"] if row else "loss"
  unit = row["unit"] if row else ""
  last = lines[-1]
  lead = f"Step {last['step']} of {last['num_steps']}; {last['seconds']:.0f} s."
  results = ""
  if row:
    low, high = row["interval"]
    lead = (
      f"Test {metric} {row['value']:.2f} {unit} (95 % interval {low:.2f} to "
      f"{high:.2f})."
    )
    names = ("experiment", "dataset", "distortion", "model", "params", "seed")
    cells = [str(row[name]) for name in (*names, "step", "seconds", "date")]
    results = _table([*names, "step", "seconds", "date"], [cells])
  config = flatten(read_json(path / "config.json"))
  page = _page(
    f"Run {path.name}",
    lead,
    [
      _section("Result", results),
      _section(
        "Training",
        _figure(run_curves(run, metric, unit), "Over the training."),
      ),
      _section("Examples", _slider(_panels([run]))),
      _section("Invariance", _invariance(path)),
      _section("Config", _fields(config), closed=True),
      _environment(run),
    ],
  )
  out.mkdir(parents=True, exist_ok=True)
  file = out / "report.html"
  file.write_text(page)
  return file
