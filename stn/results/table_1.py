"""The paper's Table 1 in its own shape: networks down, distortions across."""

from collections.abc import Iterable
from typing import Any

from stn.results.published import FAMILIES, KEY, PUBLISHED

_DISTORTIONS = ("r", "rts", "p", "e", "tc")
# (model, family), from top to bottom.
_NETWORKS = (
  ("fcn", None),
  *(("st_fcn", family) for family in FAMILIES),
  ("cnn", None),
  *(("st_cnn", family) for family in FAMILIES),
  ("cnn_bn", None),
  *(("st_cnn_bn", family) for family in (*FAMILIES, "log_polar")),
)


def table_1_to_markdown(rows: Iterable[dict[str, Any]]) -> str:
  """The lowest test errors on distorted MNIST, as in the paper's Table 1.

  Args:
    rows: from `stn.results.summarise`; only those of all of MNIST count.

  Returns:
    A Markdown table: a row for each network and family of transforms, a column
    for each distortion. A cell has the lowest mean error, in percent, whatever
    the recipe, and in brackets the published one; bold if it is not above that.
    A network without any row is left out.

  Example:
    >>> row = dict(experiment="mnist", dataset="mnist", distortion="r",
    ...            model="cnn", transform=None, transformers=0, error=1.1)
    >>> print(table_1_to_markdown([row]))
    | network | R | RTS | P | E | TC |
    |---|---|---|---|---|---|
    | cnn | **1.10** (1.2) | - (0.8) | - (1.5) | - (1.4) | - (3.5) |
  """
  lowest: dict[tuple, float] = {}
  for row in rows:
    key = tuple(row[name] for name in KEY)
    if row["error"] is not None:
      lowest[key] = min(row["error"], lowest.get(key, row["error"]))
  header = ["network", *(name.upper() for name in _DISTORTIONS)]
  lines = [f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
  for model, family in _NETWORKS:
    keys = [
      ("mnist", "mnist", distortion, model, family, int(family is not None))
      for distortion in _DISTORTIONS
    ]
    if any(key in lowest for key in keys):
      cells = [_cell(lowest.get(key), PUBLISHED.get(key)) for key in keys]
      name = " ".join(filter(None, (model, family)))
      lines.append(f"| {name} | {' | '.join(cells)} |")
  return "\n".join(lines)


def _cell(error: float | None, published: float | None) -> str:
  """Ours, and theirs in brackets, as far as there are any."""
  text = "-" if error is None else f"{error:.2f}"
  if published is None:
    return text
  if error is not None and error <= published:
    text = f"**{text}**"
  return f"{text} ({published})"
