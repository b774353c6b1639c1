"""A training run that survives: what it needs to go on is in one file, written whole or not at all."""

import hashlib
import math
from pathlib import Path

import torch

from .checkpoints import read_safetensors, save_tensors


class Run:
    """A module that is being trained, its optimiser, and how far they are.

    Args:
        settings: {name: value} of what makes this run this one; a file with other settings is not taken up.
        path: where the run is kept; None keeps it in memory only.
        accelerator: of Hugging Face accelerate, where several processes share each batch.
    """

    def __init__(self, module, optimizer, settings, path=None, accelerator=None):
        self.module, self.optimizer, self.settings = module, optimizer, settings
        self.path, self.accelerator = path and Path(path), accelerator
        self.step, self.best_loss, self.best = 0, math.inf, {}  # best: the weights with the lowest held-out loss
        self.history = {"loss": [], "held_out": []}
        if self.path and self.path.exists():
            self._resume()

    def share(self, batch):
        """This process's part of a batch."""
        a = self.accelerator
        return batch[a.process_index::a.num_processes] if a else batch

    def learn(self, terms):
        """One step of the optimiser on {term: weighted distances [N]}; the processes' gradients are averaged."""
        loss = sum(terms.values()).mean()
        self.optimizer.zero_grad()
        loss.backward()
        for parameter in self.module.parameters() if self.accelerator else ():
            if parameter.grad is not None:
                parameter.grad = self.accelerator.reduce(parameter.grad, reduction="mean")
        self.optimizer.step()
        self.step += 1
        for name, value in {**terms, "loss": loss}.items():
            self.history.setdefault(name, []).append(value.mean().item())

    def state(self, image, steps):
        """What a callback gets after a step."""
        return {"step": self.step, "steps": steps, "loss": self.history["loss"][-1], "image": image}

    def look(self, terms):
        """Note the held-out loss, and keep the weights if it is the lowest so far."""
        loss = sum(terms.values()).mean().item()
        self.history["held_out"].append(loss)
        if loss < self.best_loss:
            self.best_loss = loss
            self.best = {name: value.clone() for name, value in self.module.state_dict().items()}

    def save(self):
        """Write the run. If that fails (a full disk), the file of before stays, and so does the run."""
        if self.path is None or self.accelerator and not self.accelerator.is_main_process:
            return
        state = self.optimizer.state_dict()
        tensors = {f"module.{name}": value for name, value in self.module.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in self.best.items()}
        numbers = {}  # what the optimiser keeps besides tensors
        for i, values in state["state"].items():
            tensors |= {f"optimizer.{i}.{name}": value for name, value in values.items() if torch.is_tensor(value)}
            numbers[i] = {name: value for name, value in values.items() if not torch.is_tensor(value)}
        groups = [{name: value for name, value in group.items() if isinstance(value, int | float) and name != "params"}
                  for group in state["param_groups"]]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            save_tensors(self.path, tensors, settings=self.settings, step=self.step, best_loss=self.best_loss,
                         history=self.history, numbers=numbers, groups=groups)
        except OSError as error:
            print(f"{error}; the training goes on, and what was saved before stays.")

    def _resume(self):
        """Take up the run in the file. Raises ValueError if it is of other settings, or no such file."""
        tensors, header = read_safetensors(
            self.path, needs=["settings", "step", "best_loss", "history", "groups", "numbers"])
        other = [name for name, value in self.settings.items() if header["settings"].get(name) != value]
        if other:
            raise ValueError(f"{self.path.name} holds a run with another {', '.join(other)}: delete it to begin anew.")
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
        self.step, self.best_loss, self.history = header["step"], header["best_loss"], header["history"]
        self.best = parts["best"]


def fingerprint(values):
    """A short name for a tensor of latents or weights: equal ones have equal names."""
    return hashlib.sha256(values.cpu().numpy().tobytes()).hexdigest()[:16]
