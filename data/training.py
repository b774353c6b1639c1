"""What the recipes' trainings share: pictures, augmentation, and a loop that can be interrupted."""

import math
import os
import time

import numpy as np
import torch
import torch.nn.functional as F

from helpers.fused_ops import half_type

# Where the networks of the faces are trained. Those of the avatars are small and stay on the CPU.
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
WARM_UP = 200  # steps until the full learning rate


def to_image(pixels, device="cpu"):
    """uint8 [N, R, R, 3] -> image [N, 3, R, R] in [-1, 1]."""
    pixels = torch.from_numpy(np.array(pixels)).to(device)
    return pixels.permute(0, 3, 1, 2).float() / 127.5 - 1


def to_pixels(image):
    """image [N, 3, R, R] -> uint8 [N, R, R, 3]; values outside [-1, 1] are clipped."""
    pixels = ((image.clamp(-1, 1) + 1) * 127.5).round().byte()
    return pixels.permute(0, 2, 3, 1).cpu().numpy()


def autocast(device="cpu"):
    """A context in which networks compute in bfloat16, where the device computes with it.

    Elsewhere bfloat16 would only be converted, which takes many times as long. float16 is not
    used, since its gradients would have to be scaled.
    """
    device = torch.device(device)
    enabled = half_type(device) == torch.bfloat16
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


def device_of(module):
    """The device of a module's parameters."""
    return next(module.parameters()).device


def drawn(image, *shape):
    """Random numbers in [0, 1) for each picture of image [N, ...]: [N, *shape]."""
    return torch.rand(len(image), *shape, device=image.device)


def spread(image, amount, *shape):
    """Random numbers in [-amount, amount) for each picture of image [N, ...]: [N, *shape]."""
    return (drawn(image, *shape) * 2 - 1) * amount


def augment(image):
    """image [N, 3, R, R], shifted, turned, zoomed, blurred, recoloured, with noise: each by chance.

    `helpers.losses.augment` is another one: it is milder, and a seed decides it.
    """
    angle, zoom = spread(image, 0.07), 1 + spread(image, 0.06)
    theta = torch.zeros(len(image), 2, 3, device=image.device)
    theta[:, 0, 0] = theta[:, 1, 1] = angle.cos() * zoom
    theta[:, 0, 1], theta[:, 1, 0] = -angle.sin() * zoom, angle.sin() * zoom
    theta[:, :, 2] = spread(image, 0.06, 2)
    grid = F.affine_grid(theta, image.shape, align_corners=False)
    moved = F.grid_sample(image, grid, padding_mode="border", align_corners=False)
    soft = F.avg_pool2d(F.pad(moved, [1] * 4, mode="replicate"), 3, stride=1)
    moved = moved.lerp(soft, drawn(image, 1, 1, 1) * (drawn(image, 1, 1, 1) < 0.5))
    moved = moved * (1 + spread(image, 0.08, 3, 1, 1)) + spread(image, 0.08, 3, 1, 1)
    return moved + torch.randn_like(moved) * drawn(image, 1, 1, 1) * 0.06


class Trainer:
    """Trains a module, and goes on from a checkpoint after an interruption.

    A subclass says in `loss` what one step computes. `train` calls it.

    Args:
        module: what is trained, in place.
        optimizer: of the module's parameters; its learning rates are those after the warm-up.
        count: pictures that there are.
        batch: pictures in a step.
        seed: decides the order of the pictures.
        average: a copy of the module that follows the mean of its parameters; or None.
    """

    def __init__(self, module, optimizer, count, batch, seed, average=None):
        self.module, self.optimizer, self.average = module, optimizer, average
        self.count, self.batch, self.seed = count, batch, seed
        self.epoch, self.order = None, None  # the pictures' order in the epoch of the last step

    def loss(self, step, index):
        """The loss of one step, a scalar, on pictures numbered `index` [batch]."""
        raise NotImplementedError

    def index(self, step):
        """The sorted numbers of a step's pictures, [batch]: each picture comes once per epoch."""
        per_epoch = self.count // self.batch
        epoch = step // per_epoch
        if epoch != self.epoch:
            self.epoch = epoch
            self.order = np.random.default_rng([self.seed, epoch]).permutation(self.count)
        first = step % per_epoch * self.batch
        return np.sort(self.order[first:first + self.batch])

    def train(self, path, steps, save_every=100):
        """Train for `steps`: a linear warm-up, then half a cosine down to 2 % of the rate.

        A checkpoint beside `path` holds module, optimizer, average, random state and step. A
        second call goes on from there, and a finished training is only loaded.

        Returns: the average if there is one, else the module, in eval mode.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        checkpoint = path.with_suffix(".checkpoint")
        rates, first = [group["lr"] for group in self.optimizer.param_groups], 0
        if checkpoint.exists():
            rates, first = self.resume(checkpoint)
        started, recent = time.time(), []
        self.module.train()
        for step in range(first, steps):
            falling = 0.02 + 0.98 * (1 + math.cos(math.pi * step / steps)) / 2
            for group, rate in zip(self.optimizer.param_groups, rates):
                group["lr"] = rate * min(1, (step + 1) / WARM_UP) * falling
            self.optimizer.zero_grad(set_to_none=True)
            loss = self.loss(step, self.index(step))
            loss.backward()
            self.optimizer.step()
            recent.append(loss.item())
            if self.average is not None:
                self.follow(step)
            if (step + 1) % save_every == 0 or step + 1 == steps:
                left = (time.time() - started) / (step + 1 - first) * (steps - step - 1) / 60
                print(f"{path.name}: step {step + 1:,} of {steps:,}, "
                      f"loss {np.mean(recent):.4f}, {left:.1f} min left", flush=True)
                recent.clear()
                self.save(checkpoint, step + 1, rates)
        trained = self.module if self.average is None else self.average
        return trained.eval()

    @torch.no_grad()
    def follow(self, step):
        """Move the average towards the module, slower as the training goes on."""
        share = 1 - min(0.999, (step + 1) / (step + 10))
        for mean, parameter in zip(self.average.parameters(), self.module.parameters()):
            mean.lerp_(parameter, share)

    def parts(self):
        """What a checkpoint holds the state of, by name."""
        parts = {"model": self.module, "optimizer": self.optimizer}
        if self.average is not None:
            parts["average"] = self.average
        return parts

    def save(self, checkpoint, step, rates):
        """Write the state after `step` steps, whole or not at all."""
        state = {name: part.state_dict() for name, part in self.parts().items()}
        state |= {"rng": torch.get_rng_state(), "step": step, "rates": rates}
        if device_of(self.module).type == "cuda":
            state["rng of the GPU"] = torch.cuda.get_rng_state()
        unfinished = checkpoint.with_suffix(".part")
        torch.save(state, unfinished)
        os.replace(unfinished, checkpoint)

    def resume(self, checkpoint):
        """Take up the state in a file: the learning rates, and how many steps are done."""
        saved = torch.load(checkpoint, weights_only=True, map_location="cpu")
        for name, part in self.parts().items():
            part.load_state_dict(saved[name])
        torch.set_rng_state(saved["rng"])
        if device_of(self.module).type == "cuda" and "rng of the GPU" in saved:
            torch.cuda.set_rng_state(saved["rng of the GPU"])
        return saved["rates"], saved["step"]
