"""Writes constraints.txt: python .ci/constraints.py
python3.11=train-tf,data,export,video,view,dev,torch python3.12=train-tf,data,export,video,view,dev

Each argument is an interpreter and the extras to resolve with it. Nothing is installed: pip's own resolver reports
what it would install, and a version that differs between interpreters gets a python_version marker.
"""

import json
import pathlib
import re
import subprocess
import sys
import tempfile

REPO = pathlib.Path(__file__).resolve().parent.parent
HEADER = """\
# Versions that were resolved and tested together, CPU builds: pip install -e '.[train]' -c constraints.txt
# Written by .ci/constraints.py for {pythons}; do not edit by hand.
"""


def resolve(interpreter: str, extras: str) -> tuple[tuple[int, int], dict[str, str]]:
    """(major, minor) of the interpreter and {package: version} of what pip would install into an empty environment."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([interpreter, "-m", "venv", folder], check=True)
        report = pathlib.Path(folder, "report.json")
        pip = [f"{folder}/bin/python", "-m", "pip", "--disable-pip-version-check", "--quiet", "--quiet"]
        install = ["install", "--dry-run", "--ignore-installed", "--report", str(report), f"{REPO}[{extras}]"]
        subprocess.run([*pip, *install], check=True)
        content = json.loads(report.read_text())
    major, minor = content["environment"]["python_version"].split(".")
    packages = [item["metadata"] for item in content["install"]]
    # A local label such as +cpu names one build of a version, and other machines have others.
    versions = {normal(package["name"]): package["version"].partition("+")[0] for package in packages}
    del versions["rig3r-jax"]  # asked for, not a dependency
    return (int(major), int(minor)), versions


def normal(name: str) -> str:
    """A package name as registries compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def lines(name: str, versions: dict[tuple[int, int], str]) -> list[str]:
    """One line, or one for each run of interpreters with the same version."""
    runs: list[tuple[tuple[int, int], str]] = []
    for python in sorted(versions):
        if not runs or runs[-1][1] != versions[python]:
            runs.append((python, versions[python]))
    output = []
    for index, ((major, minor), version) in enumerate(runs):
        bounds = [f'python_version >= "{major}.{minor}"'] if index else []
        if index + 1 < len(runs):
            bounds.append('python_version < "{}.{}"'.format(*runs[index + 1][0]))
        output.append(f"{name}=={version}" + (f"; {' and '.join(bounds)}" if bounds else ""))
    return output


def main(arguments: list[str]) -> None:
    resolved = dict(resolve(*argument.split("=")) for argument in arguments)
    names = sorted(set().union(*resolved.values()))
    table = {
        name: {python: versions[name] for python, versions in resolved.items() if name in versions} for name in names
    }
    table["tensorflow"] = table["tensorflow-cpu"]  # the same release for platforms without the smaller build
    body = [line for name in sorted(table) for line in lines(name, table[name])]
    pythons = ", ".join("{}.{}".format(*python) for python in sorted(resolved))
    (REPO / "constraints.txt").write_text(HEADER.format(pythons="Python " + pythons) + "\n".join(body) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
