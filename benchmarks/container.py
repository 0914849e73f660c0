"""What the packages of an environment take on disk, such as that of the Dockerfile: benchmarks/results/container.json.

python -m venv served && served/bin/pip install '.[serve]'
served/bin/pip uninstall --yes onnxruntime-gpu && served/bin/pip install onnxruntime
python benchmarks/container.py served/bin/python
"""

import json
import subprocess
import sys

from conditions import conditions, save

PROGRAM = """
import importlib.metadata, json
sizes, versions = {}, {}
for each in importlib.metadata.distributions():
    files = [path for file in each.files or [] if (path := each.locate_file(file)).is_file()]
    name = each.metadata["Name"]
    sizes[name], versions[name] = sum(path.stat().st_size for path in files), each.version
print(json.dumps([sizes, versions]))
"""


def main(python: str) -> None:
    """Sum the files of every installed distribution but pip's own."""
    done = subprocess.run([python, "-I", "-c", PROGRAM], capture_output=True, text=True, check=True)
    sizes, versions = json.loads(done.stdout)
    sizes = {name: size for name, size in sizes.items() if name not in ("pip", "setuptools", "wheel")}
    largest = sorted(sizes.items(), key=lambda row: -row[1])[:6]
    result = {
        "conditions": conditions() | {"versions": {name: versions[name] for name in sizes}},
        "what": "bytes of the packages that the Dockerfile installs, without the base image",
        "bytes": sum(sizes.values()),
        "largest": dict(largest),
    }
    save("container", result)
    print(f"{result['bytes'] / 1e6:.0f} MB")


if __name__ == "__main__":
    main(sys.argv[1])
