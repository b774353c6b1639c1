"""What `make`, conda and pip are told to install; what a test run says it did not test."""

import asyncio
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
from contextlib import suppress

import pytest
import requests
import yaml
from conftest import ROOT
from packaging.requirements import Requirement
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

LOCKS = ("requirements", "requirements-dev", "requirements-page")
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")


def requirements(name):
    """The requirements in a file, without its comments and without the files that it includes."""
    text = (ROOT / name).read_text("utf-8")
    lines = [line.split("#")[0].strip() for line in text.splitlines()]
    return [Requirement(line) for line in lines if line and not line.startswith("-r")]


def locked(name):
    """{(package, marker): version} of a lock file; no line may say anything else."""
    found = {}
    for part in (ROOT / name).read_text("utf-8").replace(" \\\n", " ").splitlines():
        line, *hashes = [value.strip() for value in part.split(" --hash=")]
        requirement = Requirement(line)
        (pin,) = requirement.specifier
        assert pin.operator == "==" and requirement.url is None
        assert hashes and all(re.fullmatch("sha256:[0-9a-f]{64}", value) for value in hashes), line
        found[requirement.name, str(requirement.marker)] = pin.version
    return found


def make(*options):
    """What `make -n` would do, as text, without what a `make test` around this test hands down."""
    outer = ("MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS")
    environment = {name: value for name, value in os.environ.items() if name not in outer}
    done = subprocess.run(["make", "-n", *options], cwd=ROOT, text=True, capture_output=True,
                          env=environment)
    assert done.returncode == 0 and "warning" not in done.stderr, done.stderr
    return done.stdout


def test_conda_installs_what_requirements_say():
    dependencies = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))["dependencies"]
    name = next(name for name in dependencies if str(name).startswith("python="))
    python = name.removeprefix("python=")
    # one list of pins, no second
    assert dependencies == [name, "pip", {"pip": ["-r requirements.txt"]}]
    low, high = re.search(r"\(3, (\d+)\) <= v <= \(3, (\d+)\)", MAKEFILE).groups()
    supported = [f"3.{minor}" for minor in range(int(low), int(high) + 1)]
    readme = (ROOT / "README.md").read_text("utf-8")
    assert python in supported and all(version in readme for version in supported)


def test_every_requirement_is_pinned_once():
    wanted = [requirement for name in LOCKS for requirement in requirements(f"{name}.txt")]
    assert len({requirement.name for requirement in wanted}) == len(wanted) > 20
    assert all(str(requirement.specifier).startswith(("==", "<")) for requirement in wanted)
    for name in LOCKS[1:]:
        text = (ROOT / f"{name}.txt").read_text("utf-8")
        assert re.search(r"^-r requirements.txt$", text, re.M)


@pytest.mark.parametrize("name", LOCKS)
def test_the_lock_file_says_what_the_requirements_say(name):
    versions = {}
    for (package, _), version in locked(f"{name}.lock").items():
        versions.setdefault(package, set()).add(version)
    for wanted in requirements(f"{name}.txt") + requirements("requirements.txt"):
        found = versions[wanted.name.lower().replace("_", "-")]
        pinned = all(wanted.specifier.contains(version) for version in found)
        assert pinned, f"{wanted} is not {found}: make lock"


def test_tests_and_page_lock_what_the_notebooks_do():
    base, dev, page = (locked(f"{name}.lock") for name in LOCKS)
    assert base.items() <= dev.items() and base.items() <= page.items()
    both = dev.keys() & page.keys()  # `make test` installs both
    assert {key: dev[key] for key in both} == {key: page[key] for key in both}


def test_set_up_installs_by_hash_where_the_lock_is_tried():
    options = ("-W", "requirements.txt", ".venv/installed")
    assert "--require-hashes -r requirements.lock" in make(*options, "LOCKED=Linux-x86_64")
    assert "install -qq -r requirements.txt" in make(*options, "LOCKED=")


@pytest.mark.parametrize("target", ["installed", "installed-dev", "installed-page"])
def test_set_up_says_what_it_installs_and_how_long_that_takes(target):
    said = make("-W", "requirements.txt", f".venv/{target}").splitlines()
    installs = [i for i, line in enumerate(said) if " pip install " in line]
    assert len(installs) == (1 if target == "installed" else 2)  # what it needs comes first
    for i in installs:
        assert any(re.match(r'echo "Installing .* \(about \d minutes?, once\)"', line)
                   for line in said[:i])


def test_pip_says_errors_and_no_warnings():
    """With the options of the Makefile: a place that is not there is worth a warning to pip."""
    (options,) = set(re.findall(r"pip install (-q+)", MAKEFILE))
    done = subprocess.run([sys.executable, "-m", "pip", "install", options, "--no-index",
                           "--find-links", "/no/such/folder", "no-such-package"],
                          text=True, capture_output=True)
    assert done.returncode == 1 and "ERROR: No matching distribution" in done.stderr
    assert "WARNING" not in done.stdout + done.stderr


def test_the_makefile_knows_every_target_once():
    targets = ["run", "test", "test-colab", "test-colab-past", "mutants", "lab", "page", "app",
               "bench", "stress", "models", "models-cats", "models-faces", "notebooks", "export",
               "published", "html", "slides", "colab", "clean"]
    said = make("REPO=a/b", "ARGS=--share", *targets)
    for part in ("commands.run --save", 'commands.colab "a/b"', "commands.page --share",
                 "jupyter lab ", "commands.html", "--to slides", "bench", "data.cats.recipe.make",
                 "data.avatars.recipe.make", "data.faces.recipe.make", "commands.published --share",
                 "recipe.evaluate --clip ViT-B/32", "make app is make page now"):
        assert part in said
    listed = re.findall(r"[a-z-]+", re.search(r"\.PHONY:(.*?)\n\n", MAKEFILE, re.S)[1])
    assert set(targets) | {"lock"} == set(listed)


@pytest.mark.parametrize(("target", "python", "numpy"), [
    ("colab", "python3.13", "2.1.3"), ("colab-past", "python3.12", "2.0.2")])
def test_each_of_colabs_runtimes_is_tested_with_its_own_versions(target, python, numpy):
    file = f"tests/{target}-constraints.txt"
    said = make("-W", file, f"test-{target}")
    assert f"{python} -m venv .venv-{target}\n" in said
    assert said.count(f"pip install -qq -c {file} ") == 2
    assert f".venv-{target}/bin/python -m pytest" in said
    pins = {wanted.name: str(wanted.specifier) for wanted in requirements(file)}
    assert pins["numpy"] == f"=={numpy}" and pins["torch"] == "==2.11.0"
    other = make(f"test-{target}", "-W", file, "COLAB_PYTHON=python3.11")
    assert f"python3.11 -m venv .venv-{target}" in other


def test_without_chromium_the_last_line_says_what_was_not_tested(tmp_path):
    command = [sys.executable, "-m", "pytest", "-q", "tests/panels/test_browser.py"]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True,
                          env=os.environ | {"PATH": str(tmp_path)})
    assert done.stdout.splitlines()[-1] == (
        "Not tested here: tests/panels/test_browser.py "
        "(there is no Chromium: apt-get install chromium)")


async def answer_of_kernel(address, token, size):
    """What a new kernel of a Jupyter server answers to a message of so many bytes."""
    headers = {"Authorization": f"token {token}"}
    started = requests.post(f"http://{address}/api/kernels", headers=headers, timeout=30)
    url = f"ws://{address}/api/kernels/{started.json()['id']}/channels"
    connection = await websocket_connect(HTTPRequest(url, headers=headers))
    header = {"msg_id": "m", "username": "", "session": "s", "msg_type": "execute_request",
              "version": "5.3", "date": "2026-01-01T00:00:00Z"}
    content = {"code": "1", "silent": True, "store_history": False, "allow_stdin": False}
    await connection.write_message(json.dumps(
        {"channel": "shell", "header": header, "parent_header": {},
         "metadata": {"file": "x" * size}, "content": content, "buffers": []}))
    while True:
        text = await connection.read_message()
        if text is None:
            return "connection closed"
        message = json.loads(text)
        if message["channel"] == "shell" and message["parent_header"].get("msg_id") == "m":
            return message["content"]["status"]


def test_lab_takes_a_photograph_of_40_mb(tmp_path):
    """A file that is opened in a panel goes to the kernel in one message."""
    lines = make("lab").replace("\\\n", "").splitlines()
    options = shlex.split(next(line for line in lines if "jupyter lab " in line))[3:]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root",
         "--IdentityProvider.token=t", f"--ServerApp.port={port}", *options],
        cwd=tmp_path, stderr=subprocess.DEVNULL)
    try:
        address = f"127.0.0.1:{port}"
        for _ in range(120):
            time.sleep(0.5)
            with suppress(requests.ConnectionError):
                requests.get(f"http://{address}/api", timeout=5)
                break
        assert asyncio.run(answer_of_kernel(address, "t", 40_000_000)) == "ok"
    finally:
        process.terminate()
        process.wait(30)
