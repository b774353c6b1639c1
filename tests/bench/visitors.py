"""Ten visitors of the page at once, each in a browser context of its own: seconds and memory.

    python -m tests.bench.visitors [--domain faces avatars] [--visitors 10] [--keep]

They all open the page; when each has seen the first picture, they all ask for a sentence.
"""

import argparse
import asyncio
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
from threading import Event, Thread

import psutil
from playwright.async_api import async_playwright

from .results import BUILD, ROOT, add_keep, save

PROMPTS = ("a person with blonde hair", "an angry person", "a surprised person",
           "a person with sunglasses")  # that both embedded domains know
SEEN = """() => [...document.querySelectorAll("[data-testid=imageslider-image]")]
    .filter(image => image.naturalWidth > 0).length == 2"""
ANOTHER = """before => { const image = [...document.querySelectorAll(
    "[data-testid=imageslider-image]")].at(-1);
    return image.src != before && image.complete && image.naturalWidth > 0 }"""


class Watch(Thread):
    """The most memory that a process and all that it started hold at a time, in GB."""

    def __init__(self, pid, every=0.5):
        super().__init__(daemon=True)
        self.pid, self.every, self.peak, self.ended = pid, every, 0.0, Event()

    def run(self):
        while not self.ended.wait(self.every):
            self.peak = max(self.peak, self.now())

    def now(self):
        """What they hold now; what they share counts once."""
        total = 0
        for one in family(self.pid):
            try:
                total += one.memory_full_info().pss
            except psutil.NoSuchProcess:  # ended meanwhile
                continue
        return total / 1e9


def family(pid):
    """A process and all that it started."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def computed(pid):
    """Seconds that a process and all that it started have computed."""
    total = 0.0
    for one in family(pid):
        try:
            total += sum(one.cpu_times()[:4])
        except psutil.NoSuchProcess:
            continue
    return total


def busy():
    """Seconds that all processes of the machine have computed."""
    times = psutil.cpu_times()
    return times.user + times.nice + times.system


async def come(browser, address):
    """(seconds until both pictures are there, the page) of one visitor."""
    page = await (await browser.new_context()).new_page()
    page.set_default_timeout(180_000)
    started = time.perf_counter()
    await page.goto(address, wait_until="commit")
    await page.wait_for_function(SEEN, polling=250)
    return time.perf_counter() - started, page


async def ask(page, prompt):
    """Seconds from a new sentence to its picture."""
    before = await page.get_by_test_id("imageslider-image").last.get_attribute("src")
    await page.get_by_label("sentence").fill(prompt)
    started = time.perf_counter()
    await page.get_by_label("sentence").press("Enter")
    await page.wait_for_function(ANOTHER, arg=before, polling=250)
    return time.perf_counter() - started


async def visit(address, count, pid):
    """What `count` visitors of the page in process `pid` see, {name: seconds}."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        # The page's process is a child of this one, as the browsers are.
        before = computed(pid), computed(os.getpid()), busy()
        came = await asyncio.gather(*(come(browser, address) for _ in range(count)))
        page, ours = computed(pid) - before[0], computed(os.getpid()) - before[1]
        others = busy() - before[2] - ours
        edits = await asyncio.gather(*(ask(visitor, PROMPTS[i % len(PROMPTS)])
                                       for i, (_, visitor) in enumerate(came)))
        await browser.close()
    first = [seconds for seconds, _ in came]
    return {"first picture": median_and_most(first), "a sentence's picture": median_and_most(edits),
            "computed by the page": round(page, 1), "by the browsers": round(ours - page, 1),
            "by others": round(max(0.0, others), 1)}


def median_and_most(seconds):
    return {"median": round(statistics.median(seconds), 1), "most": round(max(seconds), 1)}


def measure(domain, count):
    """The figures of one domain's page, {name: seconds, or GB}."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = BUILD / "page.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    command = [sys.executable, "-m", "helpers.commands.page", f"--port={port}"]
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output,
                                   env=os.environ | {"STYLECLIP_DOMAIN": domain})
    watch = Watch(process.pid)
    try:
        while "Running on" not in log.read_text():
            if process.poll() is not None:
                raise RuntimeError(f"The page ended: {log.read_text()[-2000:]}")
            time.sleep(0.1)
        found = {"start": round(time.perf_counter() - started, 1), "idle GB": round(watch.now(), 2)}
        watch.start()
        found |= asyncio.run(visit(f"http://127.0.0.1:{port}/", count, process.pid))
    finally:
        watch.ended.set()
        process.terminate()
        process.wait(20)
    return found | {"peak GB": round(watch.peak, 2)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--domain", nargs="+", default=["faces", "avatars"])
    parser.add_argument("--visitors", type=int, default=10)
    add_keep(parser)
    options = parser.parse_args()
    domains = {}
    for domain in options.domain:
        domains[domain] = measure(domain, options.visitors)
        print(domain, domains[domain], flush=True)
    save("visitors", keep=options.keep, visitors=options.visitors, domains=domains)


if __name__ == "__main__":
    main()
