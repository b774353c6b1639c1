"""What the trainings share: pictures, batches, and a loop that survives an interruption."""

import math
import os
import time

import numpy as np
import torch
import torch.nn.functional as F

from helpers.stylegan2 import half_type

# Where the faces' networks are trained; the avatars' are small, and stay on the processor.
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def to_image(pixels, device="cpu"):
    """uint8 [N, R, R, 3] -> image [N, 3, R, R] in [-1, 1]."""
    return torch.from_numpy(np.array(pixels)).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_pixels(image):
    """image [N, 3, R, R] -> uint8 [N, R, R, 3]; what lies outside of [-1, 1] is clipped."""
    return ((image.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()


def autocast(device="cpu"):
    """bfloat16 where a device computes with it; where it would only convert, it takes many times as long.

    Not float16, in which gradients would have to be scaled.
    """
    device = torch.device(device)
    return torch.autocast(device.type, torch.bfloat16, enabled=half_type(device) == torch.bfloat16)


def device_of(model):
    return next(model.parameters()).device


def batches(count, batch, seed):
    """`index(i)` gives step i's sorted picture numbers: every picture once per epoch, the same on each run."""
    per_epoch = count // batch
    cache = {}

    def index(i):
        epoch = i // per_epoch
        if epoch not in cache:
            cache.clear()
            cache[epoch] = np.random.default_rng([seed, epoch]).permutation(count)
        at = i % per_epoch * batch
        return np.sort(cache[epoch][at:at + batch])

    return index


def augment(image):
    """A small random shift, turn and zoom, blur, change of colours and noise, one draw per picture."""
    n = len(image)

    def drawn(*shape):
        return torch.rand(n, *shape, device=image.device)

    def spread(amount, *shape):
        return (drawn(*shape) * 2 - 1) * amount

    angle, zoom = spread(0.07), 1 + spread(0.06)
    theta = torch.zeros(n, 2, 3, device=image.device)
    theta[:, 0, 0] = theta[:, 1, 1] = angle.cos() * zoom
    theta[:, 0, 1], theta[:, 1, 0] = -angle.sin() * zoom, angle.sin() * zoom
    theta[:, :, 2] = spread(0.06, 2)
    moved = F.grid_sample(image, F.affine_grid(theta, image.shape, align_corners=False), padding_mode="border",
                          align_corners=False)
    soft = F.avg_pool2d(F.pad(moved, [1] * 4, mode="replicate"), 3, stride=1)
    moved = moved.lerp(soft, drawn(1, 1, 1) * (drawn(1, 1, 1) < 0.5))
    moved = moved * (1 + spread(0.08, 3, 1, 1)) + spread(0.08, 3, 1, 1)
    return moved + torch.randn_like(moved) * drawn(1, 1, 1) * 0.06


def load_or_train(path, model, optimizer, step, index, steps, *, save_every=100, average=None):
    """Run `step(i, index(i))` (which calls backward) for `steps`, cosine learning rate with warm-up.

    A checkpoint beside `path` holds model, optimizer, averaged model, random state and step; a second call goes on
    from there, and a finished training is only loaded. Returns the averaged model if given, else the model, in eval
    mode.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    checkpoint, first = path.with_suffix(".checkpoint"), 0
    parts = {"model": model, "optimizer": optimizer} | ({"average": average} if average else {})
    on_gpu = device_of(model).type == "cuda"
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True, map_location="cpu")
        for name, part in parts.items():
            part.load_state_dict(saved[name])
        torch.set_rng_state(saved["rng"])
        if on_gpu and "rng of the GPU" in saved:
            torch.cuda.set_rng_state(saved["rng of the GPU"])
        first = saved["step"]
    rates = [group["lr"] for group in optimizer.param_groups]
    if first:
        rates = saved["rates"]
    started, recent = time.time(), []
    model.train()
    for i in range(first, steps):
        progress = i / steps
        scale = min(1, (i + 1) / 200) * (0.02 + 0.98 * (1 + math.cos(math.pi * progress)) / 2)
        for group, rate in zip(optimizer.param_groups, rates):
            group["lr"] = rate * scale
        optimizer.zero_grad(set_to_none=True)
        loss = step(i, index(i))
        optimizer.step()
        recent.append(loss.item())
        if average:
            with torch.no_grad():
                for ours, theirs in zip(average.parameters(), model.parameters()):
                    ours.lerp_(theirs, 1 - min(0.999, (i + 1) / (i + 10)))
        if (i + 1) % save_every == 0 or i + 1 == steps:
            left = (time.time() - started) / (i + 1 - first) * (steps - i - 1) / 60
            print(f"{path.name}: step {i + 1:,} of {steps:,}, loss {np.mean(recent):.4f}, {left:.1f} min left",
                  flush=True)
            recent.clear()
            state = {name: part.state_dict() for name, part in parts.items()}
            part = checkpoint.with_suffix(".part")
            torch.save(state | {"rng": torch.get_rng_state(), "step": i + 1, "rates": rates}
                       | ({"rng of the GPU": torch.cuda.get_rng_state()} if on_gpu else {}), part)
            os.replace(part, checkpoint)
    return (average or model).eval()
