"""Draw and measure: `python -m conformance.phantom --data DIR --out DIR [names]`.

Exit codes: 0 all that was asked for is drawn, 1 something failed or is missing, 2 wrong use. Without names
a part that is not there is passed over.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from conformance.phantom import MODULES, PartMissing, drawing


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw what was asked for, one line of progress each."""
    parser = argparse.ArgumentParser(prog="python -m conformance.phantom", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of real images and shapes")
    parser.add_argument("--out", type=Path, required=True, help="folder for the pictures")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(MODULES)}; all if none")
    asked = parser.parse_args(arguments)
    unknown = [name for name in asked.names if name not in MODULES]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(MODULES)}")
    names = asked.names or list(MODULES)
    asked.out.mkdir(parents=True, exist_ok=True)
    failed = 0
    for count, name in enumerate(names, 1):
        _say(f"[{count}/{len(names)}] {name}: {MODULES[name]}")
        begun = time.perf_counter()
        try:
            written = drawing(name)(asked.data, asked.out)
        except PartMissing as missing:
            _say(f"  skipped: {missing}")
            failed += bool(asked.names)
            continue
        except FileNotFoundError as missing:
            _say(f"  skipped: no real data: {missing}")
            failed += bool(asked.names)
            continue
        except Exception:  # One part that breaks does not keep the others from being drawn.
            traceback.print_exc()
            failed += 1
            continue
        for path in written:
            _say(f"  {path}")
        _say(f"  {time.perf_counter() - begun:.0f} s")
    return 1 if failed else 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
