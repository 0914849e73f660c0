"""Everything that the zoo wants of a GPU, in one command: networks, accuracies, speeds, and the search behind them.

    python3 benchmarks/gpu_train.py --output DIR --minutes 25

Each result is saved as soon as it is there; started again with the same folder, it goes on where it stopped, in the
middle of a training too. What failed is tried once more and then left, with its error in its file. In DIR:

    results/*.json    a file a result; those that the README is made of have the names they have in benchmarks/results
    parts/            checkpoints at half size, in parts of 15 MiB: `benchmarks/parts.py join DIR/parts TARGET`
    runs/             the trainings themselves, with curves

`--device cpu --tiny` goes through all of it with few images, to see that it works; its figures mean nothing.
"""

import argparse
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]  # runs from a checkout that is not installed

from gpu_bench import Bench, work  # noqa: E402
from gpu_tasks import plan  # noqa: E402

from runtime.errors import DeviceUnavailable  # noqa: E402
from zoo.device import choose_device, settle_arithmetic  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=1e6, help="begin nothing, and stop trainings, after so long")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="go through all of it with few images")
    parser.add_argument("--only", help="only results whose name has this in it")
    parser.add_argument("--list", action="store_true", help="only say what would be done, in order")
    asked = parser.parse_args()
    tasks = [task for task in plan(asked.tiny) if (asked.only or "") in task.name]
    if asked.list:
        print(*(task.name for task in tasks), sep="\n")
        return
    try:
        device = choose_device(asked.device)
    except DeviceUnavailable as error:
        print(f"Error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    settle_arithmetic(device)
    bench = Bench(asked.output.resolve(), device, asked.tiny, time.monotonic() + 60 * asked.minutes)
    complete = work(tasks, bench)
    print("all done" if complete else "not all done: start it again with the same --output", flush=True)
    raise SystemExit(0 if complete else 1)


if __name__ == "__main__":
    main()
