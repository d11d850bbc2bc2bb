"""What each setting of a sweep changes, against the first one."""

import statistics
from typing import Any

from stn.fields import short_names
from stn.results.sweep import SweepRuns, groups
from stn.results.tables import half_width


def summarise_effects(sweep: SweepRuns) -> list[dict[str, Any]]:
  """Compares settings with the first one, seed by seed.

  Runs of one seed share their data and much of their luck, so that their
  differences say more than those of the means.

  Args:
    sweep: from `read_sweep`.

  Returns:
    A row for each setting of which something is done, in the sweep's order:
    "setting"; "value", the mean test metric; "seeds" that it shares with the
    first setting; "effect", the mean difference, below 0 where it is smaller
    than in the first; "interval", Student's, 95 %, of that, None for one seed;
    "cost", its seconds over those of the first.

  Raises:
    ValueError: if nothing of the first setting is done.

  Example:
    >>> sweep = read_sweep("runs/what_helps")  # doctest: +SKIP
    >>> summarise_effects(sweep)[1]["effect"]  # doctest: +SKIP
    -0.21
  """
  found = [
    (setting, {run.setting.get("seed"): run.row for run in runs if run.row})
    for setting, runs in groups(sweep)
  ]
  first, base = found[0]
  if not base:
    raise ValueError(
      f"Effects are against the first setting, {first or 'the config'}, of "
      f"which nothing is done in {sweep.path}."
    )
  rows = []
  for setting, runs in found:
    seeds = [seed for seed in base if seed in runs]
    if not seeds:
      continue
    differences = [runs[s]["value"] - base[s]["value"] for s in seeds]
    effect = statistics.fmean(differences)
    bounds = None
    if len(seeds) > 1:
      half = half_width(differences)
      bounds = [round(effect - half, 4), round(effect + half, 4)]
    seconds, at_first = (
      sum(of[s]["seconds"] for s in seeds) for of in (runs, base)
    )
    rows.append(
      {
        "setting": setting,
        "value": round(statistics.fmean(runs[s]["value"] for s in seeds), 4),
        "seeds": len(seeds),
        "effect": round(effect, 4),
        "interval": bounds,
        "cost": round(seconds / at_first, 2),
      }
    )
  return rows


def effects_to_markdown(sweep: SweepRuns, rows: list[dict[str, Any]]) -> str:
  """The table of `summarise_effects`, in Markdown.

  Args:
    sweep: from `read_sweep`.
    rows: from `summarise_effects`.

  Returns:
    A line for each setting, of which what differs from the first is named; an
    effect whose interval is on one side of 0 is in bold.

  Example:
    >>> sweep = read_sweep("runs/what_helps")  # doctest: +SKIP
    >>> print(effects_to_markdown(sweep, summarise_effects(sweep))
    ...      )  # doctest: +SKIP
  """
  names = short_names(sweep.fields)
  unit = f", {sweep.unit}" if sweep.unit else ""
  lines = [
    f"| setting | test {sweep.metric}{unit} | effect (95 % interval) | seeds "
    "| time |",
    "|---|---|---|---|---|",
  ]
  first = rows[0]["setting"].items() if rows else ()
  for i, row in enumerate(rows):
    setting = [
      (field, value)
      for field, value in row["setting"].items()
      if not i or (field, value) not in first
    ]
    text = ", ".join(f"{names[field]} {value}" for field, value in setting)
    effect = ""
    if i:
      effect = f"{row['effect']:+.2f}"
    if i and row["interval"]:
      low, high = row["interval"]
      effect = f"**{effect}**" if low > 0 or high < 0 else effect
      effect += f" ({low:+.2f} to {high:+.2f})"
    lines.append(
      f"| {text or 'as it is'} | {row['value']:.2f} | {effect} "
      f"| {row['seeds']} | {row['cost']:.2f} |"
    )
  return "\n".join(lines)
