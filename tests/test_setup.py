"""What `make`, conda and pip are told to install, and what a test run says of what it could not test."""

import os
import re
import subprocess
import sys

import pytest
import yaml
from conftest import ROOT
from packaging.requirements import Requirement


def requirements(name):
    """The requirements in a file, without its comments and without the files that it includes."""
    lines = [line.split("#")[0].strip() for line in (ROOT / name).read_text("utf-8").splitlines()]
    return [Requirement(line) for line in lines if line and not line.startswith("-r")]


def test_conda_installs_what_requirements_say():
    dependencies = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))["dependencies"]
    python = next(name for name in dependencies if str(name).startswith("python=")).removeprefix("python=")
    assert dependencies == [f"python={python}", "pip", {"pip": ["-r requirements.txt"]}]  # one list of pins, no second
    low, high = re.search(r"\((3, \d+)\) <= v <= \((3, \d+)\)", (ROOT / "Makefile").read_text("utf-8")).groups()
    supported = [f"3.{minor}" for minor in range(int(low[3:]), int(high[3:]) + 1)]
    assert python in supported and all(version in (ROOT / "README.md").read_text("utf-8") for version in supported)


def test_every_requirement_is_pinned_once():
    wanted = requirements("requirements.txt") + requirements("requirements-dev.txt")
    assert len({requirement.name for requirement in wanted}) == len(wanted) > 20
    assert all(str(requirement.specifier).startswith(("==", "<")) for requirement in wanted)
    assert re.search(r"^-r requirements.txt$", (ROOT / "requirements-dev.txt").read_text("utf-8"), re.M)


def locked(name):
    """{(package, marker): version} of a lock file; no line may say anything else."""
    found = {}
    for part in (ROOT / name).read_text("utf-8").replace(" \\\n", " ").splitlines():
        line, *hashes = part.split(" --hash=")
        requirement = Requirement(line.strip())
        (pin,) = requirement.specifier
        assert pin.operator == "==" and requirement.url is None
        assert hashes and all(re.fullmatch("sha256:[0-9a-f]{64}", value.strip()) for value in hashes), line
        found[requirement.name, str(requirement.marker)] = pin.version
    return found


@pytest.mark.parametrize("name", ["requirements", "requirements-dev"])
def test_the_lock_file_says_what_the_requirements_say(name):
    versions = {}
    for (package, _), version in locked(f"{name}.lock").items():
        versions.setdefault(package, set()).add(version)
    for wanted in requirements(f"{name}.txt") + requirements("requirements.txt"):
        found = versions[wanted.name.lower().replace("_", "-")]
        assert all(wanted.specifier.contains(version) for version in found), f"{wanted} is not {found}: make lock"


def test_tests_lock_what_the_notebooks_do():
    assert locked("requirements.lock").items() <= locked("requirements-dev.lock").items()


def test_set_up_installs_by_hash_where_the_lock_is_tried():
    def command(system):
        outer = ("MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS")  # what a `make test VENV=...` around this test hands down
        done = subprocess.run(["make", "-n", "-W", "requirements.txt", ".venv/installed", f"LOCKED={system}"], cwd=ROOT,
                              text=True, capture_output=True,
                              env={name: value for name, value in os.environ.items() if name not in outer})
        return next(line for line in done.stdout.splitlines() if "pip install" in line)

    assert command("Linux-x86_64").endswith("--require-hashes -r requirements.lock")
    assert command("").endswith("-q -r requirements.txt")


def test_without_chromium_the_last_line_says_what_was_not_tested(tmp_path):
    command = [sys.executable, "-m", "pytest", "-q", "tests/test_browser.py"]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, env=os.environ | {"PATH": str(tmp_path)})
    missing = "Not tested here: tests/test_browser.py (there is no Chromium: apt-get install chromium)"
    assert done.stdout.splitlines()[-1] == missing
