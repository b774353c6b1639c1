"""Long tasks in a thread, so that Stop works wherever messages of widgets are blocked while a cell
runs (Colab), and one lock around the networks."""

import threading
import time
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial

import ipywidgets as widgets

from .widgets import Refused, button, sentence


class Busy(Refused):
    """The networks are at work for another panel."""


class ModelLock:
    """The lock around all networks: a run holds it for minutes, a picture for a moment."""

    def __init__(self):
        self.lock = threading.RLock()

    @contextmanager
    def for_run(self, task):
        """Wait as long as it takes. Raises Refused if the `BackgroundTask` is stopped before."""
        if not self.lock.acquire(timeout=1):  # longer than a picture takes
            task.panel.say("Waiting for another run to end.")
            while not self.lock.acquire(timeout=0.3):
                if task.stopped:
                    raise Refused("Stopped while waiting for another run.")
        try:
            yield
        finally:
            self.lock.release()

    @contextmanager
    def for_picture(self):
        """Wait for another picture, but not for another thread's run: that raises Busy."""
        if not self.lock.acquire(timeout=0.2):
            raise Busy("Busy: another run is under way. This counts when it has ended.")
        try:
            yield
        finally:
            self.lock.release()


MODEL_LOCK = ModelLock()  # whoever runs the networks holds it


class BackgroundTask:
    """One task of a `FacePanel` at a time, in a thread: Run, Stop, progress and the time left."""

    def __init__(self, panel):
        self.panel, self._thread = panel, None
        self._one = threading.Lock()  # held while there is a task
        self.stopped = False  # has Stop been pressed since the task began?
        self.run = button("Run", button_style="primary", icon="play")
        self.stop = button("Stop", icon="stop", disabled=True)
        self.progress = widgets.IntProgress(value=0, min=0, max=1, layout={"width": "76px"})
        self.time_left = widgets.Label()
        self.stop.on_click(self._stop_clicked)

    @property
    def busy(self):
        """Is there a task, at work or waiting for its turn?"""
        return self._one.locked()

    def start(self, action, *given):
        """Call an action with what is given in a thread; beside another task, do nothing."""
        if self._one.acquire(blocking=False):
            self.stopped, self._first = False, None  # first: time and number of a step
            self.panel.set_ready()
            # In the context of the cell: ipykernel 7.0.0 sends nothing from a thread without one.
            work = partial(copy_context().run, self._work, action, *given)
            self._thread = threading.Thread(target=work, daemon=True)
            self._thread.start()

    def wait(self, seconds=None):
        """Wait until the task has ended."""
        if self._thread:
            self._thread.join(seconds)

    def watch(self, state):
        """The callback of long runs, called with {"step", "steps", "image"}: whether to stop."""
        step, steps, now = state["step"], state["steps"], time.perf_counter()
        if self._first is None or step <= self.progress.value or steps != self.progress.max:
            self._first = now, step  # of this part of the task; what came before does not count
        self.progress.max, self.progress.value = steps, step
        left = (now - self._first[0]) / max(1, step - self._first[1]) * (steps - step)
        self.time_left.value = f"{left:.0f} s left" if left >= 1 else ""
        if step % 5 == 0 or step == steps:
            self.panel.pictures.show_step(state["image"][:1])
        return self.stopped

    def watch_part(self, before, steps, state):
        """`watch` in a run of several parts: `before` steps were taken, of so many in all."""
        return self.watch(state | {"step": before + state["step"], "steps": steps})

    def _stop_clicked(self, clicked):
        self.stopped = True

    def _work(self, action, *given):
        try:
            with MODEL_LOCK.for_run(self):
                try:
                    action(*given)
                finally:
                    self.panel.draw()  # at full size, where the last step was shown
        except Exception as error:
            self.panel.say(sentence(error))
        finally:  # also where nothing can be said
            self._one.release()
        self.time_left.value = ""
        self.panel.attempt(self.panel.set_ready)


class Debouncer:
    """Calls an action in a thread once nothing has moved for a number of seconds."""

    def __init__(self, action, seconds):
        self._action, self._seconds, self._timer = action, seconds, None

    def move(self):
        """Something has moved: the wait begins anew."""
        if self._timer:
            self._timer.cancel()
        self._timer = threading.Timer(self._seconds, partial(copy_context().run, self._action))
        self._timer.daemon = True
        self._timer.start()

    def wait(self, seconds=None):
        """Wait until the action has been done."""
        if self._timer:
            self._timer.join(seconds)
