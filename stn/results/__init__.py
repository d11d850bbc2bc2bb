"""Finished runs: their rows, tables, pictures and reports.

    python -m stn.results                      # the table of results/
    python -m stn.results --json               # the same, as a JSON list
    python -m stn.results --table_1            # the paper's Table 1, and ours
    python -m stn.results runs/a runs/b        # the table of some runs
    python -m stn.results --add runs/a runs/b  # appends them to results/
    python -m stn.results SWEEP                # a sweep: table and report
    python -m stn.results SWEEP --effects      # against its first setting
    python -m stn.results runs/a --report      # the report of a run

Each line of results/*.jsonl is what one finished run wrote to its result.json,
a row made by `make_row`. The table groups them by what was trained, averages
over seeds and adds the published figure. A report is one HTML file, which needs
no server and no network.
"""

from stn.results.effects import effects_to_markdown, summarise_effects
from stn.results.published import PUBLISHED
from stn.results.rows import RESULTS, add, make_row, read
from stn.results.sweep import read_sweep
from stn.results.sweep_table import summarise_sweep, sweep_to_markdown
from stn.results.table_1 import table_1_to_markdown
from stn.results.tables import summarise, to_markdown

__all__ = [
  "PUBLISHED",
  "RESULTS",
  "add",
  "effects_to_markdown",
  "make_row",
  "read",
  "read_sweep",
  "summarise",
  "summarise_effects",
  "summarise_sweep",
  "sweep_to_markdown",
  "table_1_to_markdown",
  "to_markdown",
]
