"""The code on the pages about extending, read out of the pages and run."""

import doctest
import re
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from src_training.errors import InputError
from src_training.evaluation.metrics import COUNT_METRICS
from src_training.io.volumes.registry import FORMATS, open_volume
from src_training.networks import NETWORKS

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "extending"


class Page:
    """The blocks of code of a page by their titles: a file, or what is done with it."""

    def __init__(self, name: str) -> None:
        text = (PAGES / f"{name}.md").read_text(encoding="utf-8")
        blocks = re.findall(r'^```[{ .]*python title="([^"]+)"[ }]*\n(.*?)^```', text, re.M | re.S)
        self.blocks = dict(blocks)
        files = [title for title in self.blocks if title.endswith(".py")]
        self.changed = [file for file in files if (ROOT / file).exists()]
        self.added = [file for file in files if file not in self.changed]

    def new_module(self, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
        """The one file that the page adds, imported; its examples run."""
        (file,) = self.added
        module = ModuleType(file.removesuffix(".py").replace("/", "."))
        monkeypatch.setitem(sys.modules, module.__name__, module)
        exec(compile(self.blocks[file], file, "exec"), vars(module))
        assert doctest.testmod(module).failed == 0
        return module

    def registry_line(self, module: ModuleType) -> Any:
        """What the line that the page adds to a registry says: a dict with a name, or a set."""
        (file,) = self.changed
        registry = import_module(file.removesuffix(".py").replace("/", "."))
        return eval(f"{{{self.blocks[file].strip()}}}", vars(registry) | vars(module))

    def try_it(self) -> dict[str, Any]:
        """Run what the page tries, with its assertions; gives the names that it defines."""
        names: dict[str, Any] = {}
        exec(compile(self.blocks["try it"], "try it", "exec"), names)
        return names


def test_the_network_of_the_page_keeps_its_promises(monkeypatch):
    page = Page("network")
    for name, network in page.registry_line(page.new_module(monkeypatch)).items():
        monkeypatch.setitem(NETWORKS, name, network)
    network = page.try_it()["network"].eval()
    image = torch.rand(2, 1, 64, 48)
    torch.testing.assert_close(network(image), network.decode(*network.encode(image)))
    with network.tapped(*network.taps) as features:
        network(image)
    for name, feature in features.items():
        scale = {"half": 2, "quarter": 4, "eighth": 8}[name.split("_")[1]]
        assert feature.shape[-2:] == (64 // scale, 48 // scale)


def test_the_metric_of_the_page_is_scored_and_pooled(monkeypatch):
    page = Page("metric")
    for name, metric in page.registry_line(page.new_module(monkeypatch)).items():
        monkeypatch.setitem(COUNT_METRICS, name, metric)
    page.try_it()


def test_volumes_of_the_page_open_and_are_a_domain(monkeypatch, tmp_path):
    page = Page("volume_format")
    module = page.new_module(monkeypatch)
    for volume_format in page.registry_line(module):
        monkeypatch.setitem(FORMATS, volume_format.name, volume_format)
    page.try_it()
    (tmp_path / "broken.mha").write_bytes(b"no header")
    with pytest.raises(InputError, match=r"broken\.mha cannot be read"):
        open_volume(tmp_path / "broken.mha")
