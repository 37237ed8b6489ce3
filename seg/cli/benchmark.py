"""seg benchmark: compare speed and memory with other libraries."""

from __future__ import annotations

import argparse

from .options import Subparsers, add_json, add_verb, count, progress


def add_parser(subparsers: Subparsers) -> None:
    """Add the parser of the verb."""
    parser = add_verb(
        subparsers,
        "benchmark",
        run,
        "Measure speed and memory, compared with other libraries.",
        details="Each case and the same case of the other library run in turn on this machine; the table shows medians.",
        example="seg benchmark loss loader --data data/VOC2012 --json speed.json",
    )
    parser.add_argument(
        "sections",
        metavar="SECTION",
        nargs="*",
        help="forward, train-step, loss, loader, evaluation, start-up (default: all)",
    )
    parser.add_argument("--data", metavar="ROOT", help="data set in VOC layout with a val split (default: synthetic scenes)")
    parser.add_argument("--runs", type=count, default=5, metavar="N", help="timed runs of each library (default: 5)")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Run the verb and return the exit code."""
    from ..benchmark.machine import machine
    from ..benchmark.run import benchmark
    from ..files import write_json
    from .tables import benchmark_table

    with progress("benchmark", unit="runs", quiet=args.quiet) as bar:
        rows = benchmark(args.sections, args.data, args.runs, bar.update)
    where = machine()
    print(benchmark_table(where, rows))
    if args.json:
        write_json(args.json, {"machine": where, "rows": [vars(row) for row in rows]})
    return 0
