"""Seconds that something takes."""

import statistics
import time

import torch

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def seconds_of(action, *arguments):
    """Wall time of one call, in seconds; a GPU has to have ended, too."""
    started = time.perf_counter()
    action(*arguments)
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def median_seconds(action, *arguments, repeat=3, warm_up=True):
    """Median wall time of several calls, by default after one that does not count."""
    if warm_up:
        seconds_of(action, *arguments)
    return statistics.median(seconds_of(action, *arguments) for _ in range(repeat))
