"""Check the suite on a GPU: tests, parity with the CPU, speed, waits, CUDA graphs, and a published pair of networks.

    python tools/gpu_check.py --out FOLDER

It writes ``gpu_check.json`` and ``gpu_check.md`` into the folder, and prints the table. It ends with 1 if a check
failed. ``--device cpu --small`` runs a reduced form without a GPU, which shows that the script works.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.data.published import default_data_root
from benchmark.errors import InputError
from benchmark.system.environment import describe_environment
from benchmark.system.files import write_atomically
from benchmark.training import select_device
from gpu_parts import graphs, host, marked_tests, pair, parity, speed
from gpu_parts.report import Part, Setup, to_markdown


class Planned(NamedTuple):
    """A part and its share of the time. A part that needs less leaves the rest to those after it."""

    check: Callable[[Part, Setup], None]
    share: float


PARTS: dict[str, Planned] = {
    "tests": Planned(marked_tests.check, 0.15),
    "parity": Planned(parity.check, 0.2),
    "host": Planned(host.check, 0.1),
    "graphs": Planned(graphs.check, 0.05),
    "speed": Planned(speed.check, 0.3),
    "pair": Planned(pair.check, 0.2),
}


def run_parts(names: Sequence[str], setup: Setup, seconds: float) -> list[dict[str, Any]]:
    """Run parts one after another and return them as JSON values.

    Args:
        names: Names of parts.
        setup: The device and the form of the checks.
        seconds: Seconds for all parts together.
    """
    end = time.monotonic() + seconds
    done = []
    for number, name in enumerate(names):
        shares = [PARTS[each].share for each in names[number:]]
        part = Part(name, (end - time.monotonic()) * shares[0] / sum(shares))
        try:
            PARTS[name].check(part, setup)
        except Exception as error:  # the report of the other parts must not be lost
            part.fail(error)
        done.append(part.as_dict())
    return done


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument(
        "--minutes", type=float, default=9.5, help="for everything; by default 9.5, and half a minute to end"
    )
    parser.add_argument("--out", type=Path, default=Path("gpu_check"), help="folder of the report")
    parser.add_argument("--data", type=Path, default=None, help="folder of imported data sets; the suite's by default")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"some of {','.join(PARTS)}")
    parser.add_argument("--small", action="store_true", help="the reduced form")
    options = parser.parse_args(arguments)
    options.parts = options.parts.split(",")
    if unknown := [name for name in options.parts if name not in PARTS]:
        parser.error(f"unknown part {unknown[0]!r}; known: {', '.join(PARTS)}")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the checks, write and print the report; return 0, or 1 if a check failed."""
    started = time.monotonic()
    options = parse(arguments)
    try:
        device = select_device(options.device)
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    setup = Setup(device, options.small, default_data_root() if options.data is None else options.data)
    parts = run_parts(options.parts, setup, 60 * options.minutes)
    facts = describe_environment(device.torch, device.precision)
    machine = {name: facts[name] for name in ("gpu", "cpu", "torch", "python", "threads", "commit")}
    failed = [check for part in parts for check in part["checks"] if check["status"] == "FAILED"]
    report = {
        "machine": facts, "small": options.small, "minutes": options.minutes, "held": not failed,
        "seconds": round(time.monotonic() - started, 1), "parts": parts,
    }  # fmt: skip
    table = to_markdown(machine, parts)
    options.out.mkdir(parents=True, exist_ok=True)
    write_atomically(options.out / "gpu_check.json", (json.dumps(report, indent=1) + "\n").encode())
    write_atomically(options.out / "gpu_check.md", table.encode())
    sys.stdout.write(f"{table}\n{len(failed)} failed, {report['seconds']} s\n")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
