#!/usr/bin/env python3
"""Instructions, allocations and memory of one repetition of each workload of counts.rs, measured with valgrind.

    counts.py PROGRAM [--check counts.json] [--write counts.json]

--check fails if a figure is more than 5 % above the recorded one. Instructions are compared only if compiler and
processor are those that they were recorded with. --write records them."""
import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

# A workload, and two counts of repetitions whose difference is measured.
WORKLOADS = {
    "decode-jk": (10, 40),
    "decode-jbd": (10, 40),
    "publish-changed": (10, 40),
    "publish-rest": (10, 40),
    "batteries": (4, 8),
}
TOLERANCE = 1.05


def profile(program, workload, count, folder):
    """Instructions, allocations, and the highest amount of memory in use."""
    output = os.path.join(folder, f"{workload}-{count}")
    command = ["valgrind", "--tool=dhat", f"--dhat-out-file={output}", program, workload, str(count)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=900)
    with open(output) as file:
        data = json.load(file)
    points = data["pps"]
    return (data["te"], sum(point["tbk"] for point in points), sum(point["gb"] for point in points))


def measure(program):
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        runs = {(workload, count): (program, workload, count, folder)
                for workload, counts in WORKLOADS.items() for count in counts}
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            results = dict(zip(runs, pool.map(lambda run: profile(*run), runs.values())))
    for workload, (few, many) in WORKLOADS.items():
        first, second = results[workload, few], results[workload, many]
        each = [(after - before) / (many - few) for before, after in zip(first, second)]
        if workload == "batteries":
            figures[workload] = {"bytes": round(each[2])}
        else:
            figures[workload] = {"instructions": round(each[0]), "allocations": round(each[1], 1)}
    return figures


def compiler():
    version = subprocess.run(["rustc", "-V"], check=True, capture_output=True, text=True).stdout.strip()
    return f"{version} for {platform.machine()}"


def exceeded(figures, recorded):
    skipped = {"instructions"} if recorded["compiler"] != compiler() else set()
    for workload, limits in recorded["figures"].items():
        for figure, limit in limits.items():
            now = figures[workload][figure]
            if figure not in skipped and now > limit * TOLERANCE:
                yield f"{workload}: {now} {figure}, recorded are {limit}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--check")
    parser.add_argument("--write")
    arguments = parser.parse_args()
    figures = measure(arguments.program)
    print(json.dumps(figures, indent=1))
    if arguments.write:
        with open(arguments.write, "w") as file:
            file.write(json.dumps({"compiler": compiler(), "figures": figures}, indent=1) + "\n")
    if arguments.check:
        with open(arguments.check) as file:
            recorded = json.load(file)
        for line in (found := list(exceeded(figures, recorded))):
            print(line, file=sys.stderr)
        if found:
            print("If the change is worth it, record the figures: ./bench record", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
