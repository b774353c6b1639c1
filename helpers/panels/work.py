"""Long work beside the kernel: a thread, Stop, progress, the time left, and one lock around the networks.

A thread, so that Stop works both where a running cell blocks widget messages (Colab) and where callbacks run on a
thread of their own (JupyterLab).
"""

import threading
import time
from contextlib import contextmanager

import ipywidgets as widgets

from .widgets import Refused, button, sentence


class Busy(Refused):
    """The networks are at work for another panel."""


class Models:
    """The lock around all networks: a run holds it for minutes, a picture for a moment."""

    def __init__(self):
        self._lock, self._run = threading.RLock(), None  # the thread of the run that holds it

    @contextmanager
    def for_run(self, say, stop):
        """Wait as long as it takes. Raises Refused if `stop`, an Event, is set before it is one's turn."""
        waited = 0
        while not self._lock.acquire(timeout=0.3):
            waited += 1
            if waited == 2:  # longer than a picture takes
                say("Waiting for another run to end.")
            if stop.is_set():
                raise Refused("Stopped while waiting for another run.")
        self._run = threading.get_ident()
        try:
            yield
        finally:
            self._run = None
            self._lock.release()

    @contextmanager
    def for_picture(self):
        """Wait for another picture, but not for another thread's run: that raises Busy."""
        if self._run not in (None, threading.get_ident()) or not self._lock.acquire(timeout=2):
            raise Busy("Busy: another run is under way. Try again when it has ended.")
        try:
            yield
        finally:
            self._lock.release()

    def wait(self):
        """Wait until nobody holds it. Returns: whether a run did."""
        running = self._run is not None
        with self._lock:
            return running


MODELS = Models()  # whoever runs the networks holds it


class Work:
    """One long task at a time, with its widgets.

    Args:
        say: gets a sentence, if the task must wait or fails.
        show: gets the newest image [1, 3, R, R] of a task.
        changed: called when a task begins, and when it has ended.
    """

    def __init__(self, say, show, changed):
        self.say, self._show, self._changed = say, show, changed
        self._one, self._thread, self._stop = threading.Lock(), None, threading.Event()
        self._first = None  # when a task took its first step, and which
        self.run = button("Run", button_style="primary", icon="play")
        self.stop = button("Stop", icon="stop", disabled=True)
        self.progress = widgets.IntProgress(value=0, min=0, max=1, layout=widgets.Layout(width="160px"))
        self.time_left = widgets.Label()
        self.stop.on_click(lambda clicked: self._stop.set())
        self.widgets = [self.run, self.stop, self.progress, self.time_left]

    @property
    def busy(self):
        return self._one.locked()

    @property
    def stopped(self):
        return self._stop.is_set()

    def start(self, task, ended):
        """Call `task()` and then, whatever happened, `ended(succeeded)` in a thread; nothing happens beside a task."""
        if not self._one.acquire(blocking=False):
            return
        self._stop.clear()
        self._set_ready()
        self._thread = threading.Thread(target=self._work, args=(task, ended), daemon=True)
        self._thread.start()

    def wait(self, seconds=None):
        """Wait until the task has ended."""
        if self._thread:
            self._thread.join(seconds)

    def count_anew(self):
        """The next step is the first of a new part: the time left counts from there."""
        self._first = None

    def watch(self, state):
        """The callback of long runs: shows a step {"step", "steps", "image"}, and says whether to stop."""
        self.progress.max, self.progress.value = state["steps"], state["step"]
        now = time.perf_counter()
        self._first = self._first or (now, state["step"])  # what comes before the first step does not count
        left = (now - self._first[0]) / max(1, state["step"] - self._first[1]) * (state["steps"] - state["step"])
        self.time_left.value = f"{left:.0f} s left" if left >= 1 else ""
        if state["step"] % 5 == 0 or state["step"] == state["steps"]:
            self._show(state["image"][:1])
        return self.stopped

    def _work(self, task, ended):
        succeeded = False
        try:
            with MODELS.for_run(self.say, self._stop):
                self.count_anew()
                task()
                succeeded = True
        except Exception as error:
            self.say(sentence(error))
        self._one.release()
        self._set_ready()
        ended(succeeded)

    def _set_ready(self):
        self.run.disabled, self.stop.disabled, self.time_left.value = self.busy, not self.busy, ""
        self._changed()


class Rest:
    """Calls an action once nothing has moved for a while; each move begins the wait anew.

    Args:
        action: called in a thread; moves during it lead to another call.
        seconds: how long nothing must have moved.
    """

    def __init__(self, action, seconds=0.3):
        self._action, self._seconds = action, seconds
        self._lock, self._due, self._thread = threading.Lock(), None, None

    def move(self):
        with self._lock:
            self._due = time.monotonic() + self._seconds
            if self._thread is None:
                self._thread = threading.Thread(target=self._wait, daemon=True)
                self._thread.start()

    def cancel(self):
        """Do nothing until the next move."""
        with self._lock:
            self._due = None

    def wait(self, seconds=None):
        """Wait until the action has been done."""
        thread = self._thread
        if thread:
            thread.join(seconds)

    def _wait(self):
        while True:
            with self._lock:
                if self._due is None:
                    self._thread = None
                    return
                left = self._due - time.monotonic()
                if left <= 0:
                    self._due = None
            if left > 0:
                time.sleep(left)
            else:
                self._action()


class Turns:
    """What the networks are needed for at once, or else when they are free again.

    Args:
        work: the panel's own `Work`.
        say: gets a sentence about what must wait, and what goes wrong.
        draw: draws the panel's picture at full size; done when all else is.
    """

    ORDER = ("face", "look up", "picture")  # what is looked up is for the face, and the picture for both

    def __init__(self, work, say, draw):
        self._work, self._say, self._draw = work, say, draw
        self._waiting = {}  # {name: action}
        self._one = threading.RLock()  # one thread's action at a time: a hand's, a rested slider's, an ended run's
        self.rest = Rest(self._rested)

    def do(self, name, action):
        """Do it now, or when the networks are free again; of several with one name, the last."""
        self._waiting[name] = action
        if self._work.busy:
            self._say("A run is under way: this counts when it has ended.")
        else:
            self._do_all()

    def waits(self, name):
        return name in self._waiting

    def catch_up(self):
        """A run has ended, or a slider has rested: do what waits, and draw at full size."""
        self._waiting["picture"] = self._draw
        self._do_all()

    def _do_all(self):
        with self._one:
            for name in self.ORDER:
                action = self._waiting.pop(name, None)
                try:
                    if action:
                        action()
                except Busy:
                    self._waiting.setdefault(name, action)
                    self._say("Busy: another run is under way. This counts when it has ended.")
                    return self.rest.move()
                except Exception as error:
                    self._say(sentence(error))

    def _rested(self):
        if MODELS.wait():
            self._say("The other run has ended.")
        if not self._work.busy:
            self.catch_up()
