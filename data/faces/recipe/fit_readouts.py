"""Fit the generator's early stops at 256 and 512 px to its full pictures, area-averaged.

The rest of the network sees only a few pixels around each place, so it is run on crops of the
feature maps: many faces, few pixels each. A third of the crops get the later styles of another
face, for an edit may change these alone.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from helpers.mobile_stylegan import haar

SIDES = (256, 512)
CROP = 20  # side of a crop of the 128 px features
BORDER = 4  # left out of each crop: what its zero padding spoils


def features(generator, s, stop, x=None, start=4, place=None):
    """Feature maps before the layers of `stop` px, from those before the layers of `start` px.

    Args:
        s: [N, S].
        x: feature maps [N, C, H, W]; without it, the generator's constant.
        place: (top, left) of a crop of the 128 px features; its noise is cut out alike.
    """
    if x is None:
        x = generator.constant.expand(len(s), -1, -1, -1)
    for part in generator.style_layout:
        if not start <= part.resolution < stop:
            continue
        x = x.contiguous(memory_format=torch.channels_last)
        if part.kind != "conv" or place is None:
            x = part.layer(x, s[:, part.slice])
        else:
            top, left = (at * part.resolution // 128 for at in place)
            x = part.layer(x, s[:, part.slice], noise="none")
            noise = part.layer.noise[top:top + x.shape[2], left:left + x.shape[3]]
            x = F.leaky_relu(F.leaky_relu(x, 5) + noise, 0.2)  # undone, and done with the noise
    return x


def crops(generator, count, seed, batch=8):
    """Training pairs of `count` faces for both stops.

    Returns: {side: (feature maps [M, C, h, w], later styles [M, S'], Haar channels of the
        picture [M, 12, h, w])}.
    """
    random, rows = torch.Generator().manual_seed(seed), {side: [] for side in SIDES}
    first = {}  # the first of the styles that an early stop leaves out
    for side in SIDES:
        first[side] = next(part.start for part in generator.style_layout
                           if part.resolution >= side)
    for done in range(0, count, batch):
        z = torch.randn(batch, generator.z_dim, generator=random)
        psi = torch.rand(batch, 1, generator=random) * 0.5 + 0.5
        w = generator.w_avg.lerp(generator.map(z), psi)
        s = generator.styles(generator.broadcast(w))
        x = features(generator, s, 256)
        for _ in range(2):
            mixed = s.clone()
            swap = torch.rand(batch, generator=random) < 1 / 3
            mixed[swap, first[256]:] = s.roll(1, 0)[swap, first[256]:]
            top, left = torch.randint(0, 128 - CROP, (2,), generator=random).tolist()
            part = x[:, :, top:top + CROP, left:left + CROP]
            middle = features(generator, mixed, 512, part, 256, (top, left))
            image = features(generator, mixed, 1024, middle, 512, (top, left))
            image = generator.to_image(image, mixed[:, generator.style_layout[-1].slice])
            for side, maps in ((256, part), (512, middle)):
                scale = side // 256
                inside = slice(BORDER * scale, (CROP - BORDER) * scale)
                small = haar(F.avg_pool2d(image, 1024 // side))
                rows[side].append((maps[..., inside, inside].half(), mixed[:, first[side]:],
                                   small[..., inside, inside]))
        if done % 400 == 0:
            print(f"{done} of {count} faces", flush=True)
    return {side: tuple(torch.cat(part) for part in zip(*row)) for side, row in rows.items()}


def fit(readout, maps, styles, target, *, steps, seed, batch=64):
    """Train one `Readout` in place, on the pairs of `crops`.

    Maps and styles are standardised in training, and that is folded into the weights.
    """
    random = torch.Generator().manual_seed(seed)
    mean, std = styles.mean(dim=0), styles.std(dim=0)
    scale = maps.float().square().mean(dim=(0, 2, 3)).sqrt()  # [C]
    for affine, bias in zip(readout.affine, (1.0, 1.0, 0.0)):
        nn.init.zeros_(affine.weight)
        nn.init.constant_(affine.bias, bias)
    for conv in (readout.linear, readout.expand):
        nn.init.zeros_(conv.weight)
    readout.requires_grad_(True)
    modulations = list(readout.affine.parameters())
    rest = [weight for name, weight in readout.named_parameters() if not name.startswith("affine")]
    groups = [{"params": modulations, "lr": 3e-4}, {"params": rest, "lr": 3e-3}]
    optimizer = torch.optim.Adam(groups)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, [3e-4, 3e-3], total_steps=steps)
    losses = []
    for step in range(steps):
        at = torch.randint(0, len(maps), (batch,), generator=random)
        x = maps[at].float() / scale[:, None, None]
        x = readout(x.contiguous(memory_format=torch.channels_last), (styles[at] - mean) / std)
        loss = (haar(x) - target[at]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if (step + 1) % 250 == 0:
            psnr = -10 * np.log10(np.mean(losses[-250:]))
            print(f"step {step + 1} of {steps}: {psnr:.1f} dB", flush=True)
    readout.requires_grad_(False)
    readout.affine[0].weight.div_(scale[:, None])
    readout.affine[0].bias.div_(scale)
    for affine in readout.affine:
        affine.weight.div_(std)
        affine.bias.sub_(affine.weight @ mean)


@torch.no_grad()
def fidelity(generator, side, *, count=32, seed=4321, psi=0.7):
    """PSNR of early stops against full pictures, area-averaged, on faces that no fit saw.

    Returns: in dB, [count].
    """
    z = torch.randn(count, generator.z_dim, generator=torch.Generator().manual_seed(seed))
    values = []
    for part in generator.map(z, truncation=psi).split(4):
        s = generator.styles(generator.broadcast(part))
        full = generator.synthesize(s).clamp(-1, 1)
        full = F.avg_pool2d(full, generator.resolution // side)
        error = (generator.synthesize(s, side).clamp(-1, 1) - full).square().mean(dim=(1, 2, 3))
        values.append(10 * torch.log10(4 / error))
    return torch.cat(values)
