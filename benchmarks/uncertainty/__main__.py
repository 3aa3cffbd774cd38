"""``python -m benchmarks.uncertainty [--draws N] [part of name ...]``: run what has no result of as many draws.

The table of all results is printed, with ``--table`` alone. ``--wishart D N POWER`` is for a Frechet distance in many
dimensions: truth from as many draws.
"""

from __future__ import annotations

import argparse
import sys

from benchmarks.uncertainty.cells import record, todo
from benchmarks.uncertainty.laws import LAWS
from benchmarks.uncertainty.table import table
from benchmarks.uncertainty.wishart import wishart

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("names", nargs="*")
parser.add_argument("--draws", type=int, default=300)
parser.add_argument("--table", action="store_true")
parser.add_argument("--wishart", nargs=3, type=float, metavar=("D", "N", "POWER"))
asked = parser.parse_args()
if asked.wishart:
    d, n, power = asked.wishart
    for result in wishart(int(d), int(n), power, asked.draws):
        record(result)
elif not asked.table:
    laws = {}
    for cell in todo(asked.names, asked.draws):
        law = laws.setdefault(cell.law, None) or LAWS[cell.law]()
        laws[cell.law] = law
        for result in cell.run(law, asked.draws):
            record(result)
            print(result, file=sys.stderr, flush=True)
print(table())
