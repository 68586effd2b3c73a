"""The conformance suite: every kind of result from studies in every geometry, through every validator.

Run as ``python -m conformance.run``; prints a table and exits with 0 (all content), 1 (a complaint) or
2 (a program is missing, so that nothing can be said).
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.table import Table

from conformance.cases import CASES
from conformance.examine import COLUMNS, Row, examine


def main() -> int:
    """Runs everything; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, help="keep studies and results in this folder")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="studies at the same time")
    parser.add_argument("--only", default="", help="studies with these words in their name")
    arguments = parser.parse_args()
    names = [name for name in CASES if arguments.only in name]
    if arguments.keep is not None:
        return _run(names, arguments.keep, arguments.jobs)
    with tempfile.TemporaryDirectory() as folder:
        return _run(names, Path(folder), arguments.jobs)


def _run(names: list[str], folder: Path, jobs: int) -> int:
    console = Console(width=None if sys.stdout.isatty() else 150)
    table = Table(
        title="Result objects, by study and validator", caption="ok: no complaint; -: does not apply"
    )
    table.add_column("study", no_wrap=True)
    table.add_column("objects", no_wrap=True)
    for column in COLUMNS:
        table.add_column(column)
    rows = list(_rows(names, folder, jobs))
    for row in rows:
        table.add_row(row.name, " ".join(row.objects), *(row.cells[column] for column in COLUMNS))
    console.print(table)
    complaints = [line for row in rows for line in row.complaints]
    missing = {name for row in rows for name in row.missing}
    for line in complaints:
        console.print(line, style="red", soft_wrap=True, markup=False)
    if missing:
        console.print(f"Not installed: {', '.join(sorted(missing))}", style="red")
    objects = sum(len(row.objects) for row in rows)
    console.print(f"{len(rows)} studies, {objects} objects, {len(complaints)} complaints.")
    if complaints:
        return 1
    return 2 if missing else 0


def _rows(names: list[str], folder: Path, jobs: int) -> Iterator[Row]:
    """In the order of `names`, computed in processes of their own."""
    # Each process has a core.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context) as pool:
        places = [folder / f"{number:02d}" for number, _ in enumerate(names, start=1)]
        yield from pool.map(examine, names, places)


if __name__ == "__main__":
    sys.exit(main())
