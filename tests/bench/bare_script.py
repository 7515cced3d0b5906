"""The least that a script with a small W-Net does: ``bare_script.py PHOTOGRAPH LABELS PASSES``.

It reads a photograph, scales it to 512 × 512 px, averages as many passes, of the image and its
flips, and writes the labels at the original size. The Little W-Net's own script averages four
and also looks for the field of view. Weights do not matter to its time: the network is not
trained, but has the size of the model `vessels`.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

SIDE, WIDTHS, THRESHOLD = 512, (8, 16, 32), 0.4196
FLIPS = ((), (-1,), (-2,), (-2, -1))


def layers(inside: int, outside: int) -> tuple[nn.Module, ...]:
    """A convolution and its batch norm."""
    return nn.Conv2d(inside, outside, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(outside)


class Block(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(*layers(inside, outside), *layers(outside, outside))
        self.shortcut = nn.Sequential(nn.Conv2d(inside, outside, 1), nn.BatchNorm2d(outside))

    def forward(self, image: Tensor) -> Tensor:
        return self.convolutions(image) + self.shortcut(image)


class UNet(nn.Module):
    """Three levels."""

    def __init__(self, inside: int) -> None:
        super().__init__()
        a, b, c = WIDTHS
        self.down = nn.ModuleList([Block(inside, a), Block(a, b), Block(b, c)])
        self.up = nn.ModuleList([nn.ConvTranspose2d(c, b, 2, 2), nn.ConvTranspose2d(b, a, 2, 2)])
        self.bridges = nn.ModuleList([nn.Sequential(*layers(b, b)), nn.Sequential(*layers(a, a))])
        self.joined = nn.ModuleList([Block(2 * b, b), Block(2 * a, a)])
        self.head = nn.Conv2d(a, 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        first = self.down[0](image)
        second = self.down[1](nn.functional.max_pool2d(first, 2))
        third = self.down[2](nn.functional.max_pool2d(second, 2))
        up = self.joined[0](torch.cat([self.up[0](third), self.bridges[0](second)], 1))
        up = self.joined[1](torch.cat([self.up[1](up), self.bridges[1](first)], 1))
        return self.head(up)


class WNet(nn.Module):
    """A second U-Net that sees the image and what the first makes of it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = UNet(3), UNet(5)

    def forward(self, image: Tensor) -> Tensor:
        return self.second(torch.cat([image, self.first(image)], 1))


def main(photograph: Path, labels: Path, passes: int) -> None:
    """Segment a photograph."""
    image = Image.open(photograph).convert("RGB")
    scaled = np.asarray(image.resize((SIDE, SIDE)), np.float32) / 255
    stack = torch.from_numpy(scaled).permute(2, 0, 1)[None]
    network = WNet().eval()
    with torch.inference_mode():
        maps = [network(stack.flip(axes)).softmax(1).flip(axes) for axes in FLIPS[:passes]]
    foreground = Image.fromarray(torch.stack(maps).mean(0)[0, 1].numpy())
    mask = np.asarray(foreground.resize(image.size, Image.Resampling.BICUBIC)) > THRESHOLD
    Image.fromarray(mask.astype(np.uint8) * 255).save(labels)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
