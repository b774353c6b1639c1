"""Ten visitors of the page at once, each in a browser context of its own: seconds until they see a picture, and memory.

python tests/bench/visitors.py [--domain avatars] [--visitors 10]
"""

import argparse
import asyncio
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from threading import Thread

import psutil
from playwright.async_api import async_playwright

ROOT = Path(__file__).resolve().parents[2]
SEEN = "() => [...document.querySelectorAll('.widget-image')].some(image => image.naturalWidth > 0)"


def tree(pid):
    """A process and all that it started."""
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True).stdout.split()
    return [pid, *(one for child in found for one in tree(int(child)))]


def memory(pid):
    """Bytes that a process and all that it started hold, what they share counted once."""
    total = 0
    for one in tree(pid):
        try:
            total += int(re.search(r"^Pss: +(\d+)", Path(f"/proc/{one}/smaps_rollup").read_text(), re.M)[1]) * 1024
        except (FileNotFoundError, ProcessLookupError):  # ended meanwhile
            pass
    return total


def seconds(pid):
    """Seconds that a process and all that it started have computed, those that ended and were waited for included."""
    total = 0
    for one in tree(pid):
        try:
            total += sum(psutil.Process(one).cpu_times()[:4])
        except psutil.NoSuchProcess:
            pass
    return total


async def visit(browser, address):
    """(seconds until a picture is there, the page) of one visitor."""
    page = await (await browser.new_context()).new_page()
    page.set_default_timeout(180_000)
    started = time.perf_counter()
    await page.goto(address, wait_until="commit")
    await page.wait_for_function(SEEN, polling=250)
    first = time.perf_counter() - started
    return first, page


async def changed(page, action):
    """Seconds from an action to another picture."""
    started = time.perf_counter()
    before = await page.locator(".widget-image").nth(1).get_attribute("src")
    await action
    await page.wait_for_function("before => document.querySelectorAll('.widget-image')[1].src != before",
                                 arg=before, polling=250)
    return time.perf_counter() - started


async def edit(page, prompt):
    """Seconds from a new prompt to its picture, of a random face, whose latent is known."""
    await changed(page, page.get_by_text("another random face").first.click())
    field = page.locator('.widget-inline-hbox:has(label:text-is("prompt")) input').first
    await field.fill(prompt)
    return await changed(page, field.press("Tab"))


async def visitors(address, count, pid):
    prompts = ["a person with purple hair", "an angry person", "a surprised person", "a person with curly hair"]
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        before = seconds(pid), seconds(os.getpid())  # all, the page's too, began in this process
        came = await asyncio.gather(*(visit(browser, address) for _ in range(count)))
        page, everything = seconds(pid) - before[0], seconds(os.getpid()) - before[1]
        print(f"{count} visitors at once: a picture after {statistics.median(first for first, _ in came):.1f} s in the "
              f"median, {max(first for first, _ in came):.1f} s at most; {memory(pid) / 1e9:.2f} GB\n"
              f"computed for that: {page:.1f} s in the page's processes, {everything - page:.1f} s in the browser's; "
              f"load of the machine {os.getloadavg()[0]:.1f}", flush=True)
        edits = await asyncio.gather(*(edit(page, prompts[i % len(prompts)]) for i, (_, page) in enumerate(came)))
        print(f"then a sentence each, at once: its picture after {statistics.median(edits):.1f} s in the median, "
              f"{max(edits):.1f} s at most; {memory(pid) / 1e9:.2f} GB", flush=True)
        await asyncio.gather(*(page.close(run_before_unload=True) for _, page in came))
        await asyncio.sleep(5)
        await browser.close()
    print(f"5 s after they left: {len(tree(pid)) - 2} kernels, {memory(pid) / 1e9:.2f} GB")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--domain", default="avatars")
    parser.add_argument("--visitors", type=int, default=10)
    options = parser.parse_args()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = time.perf_counter()
    command = [sys.executable, str(ROOT / "notebooks" / "app.py"), f"--port={port}", "--no-browser",
               f"--visitors={options.visitors}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          env=os.environ | {"STYLECLIP_DOMAIN": options.domain}) as process:
        try:
            for line in process.stdout:
                if "is running at" in line:
                    break
            print(f"{options.domain}: the page is there after {time.perf_counter() - started:.1f} s; "
                  f"{memory(process.pid) / 1e9:.2f} GB", flush=True)
            Thread(target=process.stdout.read, daemon=True).start()  # so that it can go on writing
            asyncio.run(visitors(f"http://127.0.0.1:{port}/", options.visitors, process.pid))
        finally:
            process.terminate()
            process.wait(20)


if __name__ == "__main__":
    main()
