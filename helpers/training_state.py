"""What a long run needs to go on after an interruption: in one file, written whole or not at
all."""

import hashlib
import math
import time
from pathlib import Path

import torch

from .domains.formats.safetensors_files import read_safetensors, save_tensors

SAVE_INTERVAL = 20  # seconds between two saves of a sweep
# Settings by the names that files of former versions have.
FORMER_NAMES = {"rate": "lr", "sideways": "lambda_orthogonal", "count": "training_latents",
                "scatter": "last_layer_scale"}


def fingerprint(values):
    """A short name for a tensor of latents or weights: equal ones have equal names."""
    return hashlib.sha256(values.cpu().numpy().tobytes()).hexdigest()[:16]


class TrainingRun:
    """A module in training: its optimizer, how far it is, and the best weights so far.

    Args:
        path: where the run is kept; None keeps it in memory only.
        accelerator: of Hugging Face accelerate, where several processes share each batch.

    Attributes: step; best, the weights with the lowest held-out loss; history, {loss: list}.
    """

    def __init__(self, module, optimizer, path=None, accelerator=None):
        self.module, self.optimizer, self.accelerator = module, optimizer, accelerator
        self.path = None if path is None else Path(path)
        self.description = {}
        self.step, self.best_loss, self.best = 0, math.inf, {}
        self.history = {"loss": [], "held_out": []}

    def share(self, batch):
        """This process's part of a batch."""
        if self.accelerator is None:
            return batch
        return batch[self.accelerator.process_index::self.accelerator.num_processes]

    def train_step(self, losses, lr):
        """One step of the optimizer on {name: weighted losses [B]}; processes average their
        gradients."""
        loss = sum(losses.values()).mean()
        self.optimizer.param_groups[0]["lr"] = lr
        self.optimizer.zero_grad()
        loss.backward()
        if self.accelerator is not None:
            for parameter in self.module.parameters():
                if parameter.grad is not None:
                    parameter.grad = self.accelerator.reduce(parameter.grad, reduction="mean")
        self.optimizer.step()
        self.step += 1
        for name, value in {**losses, "loss": loss}.items():
            self.history.setdefault(name, []).append(value.mean().item())

    def evaluate(self, losses):
        """Note the held-out losses {name: [H]}, and keep the weights if they are the best so
        far."""
        loss = sum(losses.values()).mean().item()
        self.history["held_out"].append(loss)
        if loss < self.best_loss:
            self.best_loss = loss
            self.best = {name: value.clone() for name, value in self.module.state_dict().items()}

    def state(self, image, steps):
        """What a callback gets after a step."""
        return {"step": self.step, "steps": steps, "loss": self.history["loss"][-1],
                "image": image.detach()}

    def save(self):
        """Write the run. If that fails (a full disk), that is said, and the file of before
        stays."""
        if self.path is None or self.accelerator and not self.accelerator.is_main_process:
            return
        state = self.optimizer.state_dict()
        tensors = {f"module.{name}": value for name, value in self.module.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in self.best.items()}
        numbers = {}  # what the optimizer keeps besides tensors
        for i, values in state["state"].items():
            numbers[i] = {name: value for name, value in values.items()
                          if not torch.is_tensor(value)}
            tensors |= {f"optimizer.{i}.{name}": value for name, value in values.items()
                        if torch.is_tensor(value)}
        groups = [{name: value for name, value in group.items()
                   if isinstance(value, int | float) and name != "params"}
                  for group in state["param_groups"]]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            save_tensors(self.path, tensors, settings=self.description, step=self.step,
                         best_loss=self.best_loss, history=self.history, numbers=numbers,
                         groups=groups)
        except OSError as error:
            print(f"{error}; the training goes on, and what was saved before stays.")

    def resume(self, description):
        """Take up the run in the file, if there is one; `description` tells it from others, {name:
        value}.

        Raises: ValueError if the file is of another run, or no such file.
        """
        self.description = description
        if self.path is None or not self.path.exists():
            return
        tensors, header = read_safetensors(
            self.path, needs=["settings", "step", "best_loss", "history", "groups", "numbers"])
        check_same_run(self.path, header["settings"], description)
        parts = {"module": {}, "best": {}, "optimizer": {}}
        for name, value in tensors.items():
            kind, rest = name.split(".", 1)
            parts[kind][rest] = value
        self.module.load_state_dict(parts["module"])
        state = self.optimizer.state_dict()
        for name, value in parts["optimizer"].items():
            i, key = name.split(".")
            state["state"].setdefault(int(i), {})[key] = value
        for i, values in header["numbers"].items():
            state["state"].setdefault(int(i), {}).update(values)
        for group, values in zip(state["param_groups"], header["groups"]):
            group.update(values)
        self.optimizer.load_state_dict(state)
        self.step, self.best_loss = header["step"], header["best_loss"]
        self.history, self.best = header["history"], parts["best"]


def check_same_run(path, found, description):
    """Raise ValueError if a file's description {name: value} differs from that of the run to go on
    with.

    A file of a former version says less; what it does not say is not compared.
    """
    other = []
    for name, value in found.items():
        if name not in description:
            name = FORMER_NAMES.get(name, name)
        if name in description and description[name] != value:
            other.append(name)
    if other:
        raise ValueError(f"{path.name} holds a run with another {', '.join(other)}: "
                         "delete it to begin anew.")


class SweepRun:
    """Method 3's sweep on its way: Delta-i of each channel, and which are done.

    Args:
        channels, width: C and D of Delta-i [C, D].
        path, accelerator: as `TrainingRun`; each process has channels and a file of its own.
    """

    def __init__(self, channels, width, path=None, accelerator=None):
        self.accelerator, self.rank, self.processes = accelerator, 0, 1
        if accelerator is not None:
            self.rank, self.processes = accelerator.process_index, accelerator.num_processes
        if path is not None:
            path = Path(f"{path}.{self.rank}" if self.processes > 1 else path)
        self.path, self.description, self.stopped = path, {}, False
        self.found = torch.zeros(channels, width)
        self.done = torch.zeros(channels, dtype=torch.uint8)

    def resume(self, description):
        """Take up the sweep in the file, if there is one. Raises ValueError if it is of another
        sweep."""
        self.description = description
        if self.path is not None and self.path.exists():
            tensors, header = read_safetensors(self.path, needs=["settings", "directions", "done"])
            check_same_run(self.path, header["settings"], description)
            self.found, self.done = tensors["directions"].clone(), tensors["done"].clone()

    def channels_to_do(self):
        """The numbers of this process's channels that are not done, one by one until the sweep is
        stopped."""
        todo = [i for i in range(self.rank, len(self.done), self.processes) if not self.done[i]]
        self.step, self.steps = 0, len(todo)
        self.started = self.saved = time.perf_counter()
        for i in todo:
            if self.stopped:
                return
            yield i

    def note(self, i, direction, callback=None):
        """Keep Delta-i [D] of channel number i; the callback gets {"step", "steps",
        "seconds_left"}."""
        self.found[i], self.done[i] = direction.cpu(), 1
        self.step += 1
        now = time.perf_counter()
        left = (now - self.started) / self.step * (self.steps - self.step)
        if callback is not None:
            state = {"step": self.step, "steps": self.steps, "seconds_left": left}
            self.stopped = bool(callback(state))
        last = self.stopped or self.step == self.steps
        if self.path is not None and (last or now - self.saved > SAVE_INTERVAL):
            save_tensors(self.path, {"directions": self.found, "done": self.done},
                         settings=self.description)
            self.saved = now

    def result(self):
        """Delta-i [C, D] of all processes' channels, and which are done, bool [C]."""
        found, done = self.found, self.done
        if self.accelerator is not None:
            found = self.accelerator.reduce(found.to(self.accelerator.device)).cpu()
            done = self.accelerator.reduce(done.to(self.accelerator.device)).cpu()
        return found, done.bool()
