"""The code on the pages about extending, read out of the pages and run."""

import doctest
import json
import re
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml

from src_training.config.recipe import Recipe
from src_training.config.stages import STAGES
from src_training.distillation import METHODS
from src_training.errors import InputError
from src_training.evaluation.metrics import COUNT_METRICS
from src_training.inference.model_file import read_card
from src_training.io.volumes.registry import FORMATS, open_volume
from src_training.networks import NETWORKS
from src_training.runs.run import distil

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "extending"
BLOCK = re.compile(r'^```[{ .]*(?:python|yaml) title="([^"]+)"[ }]*\n(.*?)^```', re.M | re.S)


def dotted(file: str) -> str:
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


class Page:
    """The blocks of code of a page by their titles: a file, or what is done with it."""

    def __init__(self, name: str) -> None:
        text = (PAGES / f"{name}.md").read_text(encoding="utf-8")
        self.blocks = dict(BLOCK.findall(text))
        files = [title for title in self.blocks if title.endswith(".py")]
        self.changed = [file for file in files if (ROOT / file).exists()]
        self.added = [file for file in files if file not in self.changed]

    def registry_line(self, monkeypatch: pytest.MonkeyPatch) -> Any:
        """Import the one file that the page adds, and evaluate the line that it adds to another.

        Returns
        -------
        dict or set
            A name and what is registered by it, or only that.
        """
        (added,), (changed,) = self.added, self.changed
        module = ModuleType(dotted(added))
        monkeypatch.setitem(sys.modules, module.__name__, module)
        exec(compile(self.blocks[added], added, "exec"), vars(module))
        assert doctest.testmod(module).failed == 0
        names = vars(import_module(dotted(changed))) | vars(module)
        return eval(f"{{{self.blocks[changed].strip()}}}", names)

    def register(self, monkeypatch: pytest.MonkeyPatch, registry: dict[str, Any]) -> str:
        """Put into a registry what the page adds; gives its name."""
        line = self.registry_line(monkeypatch)
        entries = line if isinstance(line, dict) else {each.name: each for each in line}
        ((name, entry),) = entries.items()
        monkeypatch.setitem(registry, name, entry)
        return name

    def try_it(self) -> dict[str, Any]:
        """Run what the page tries, with its assertions; gives the names that it defines."""
        names: dict[str, Any] = {}
        exec(compile(self.blocks["try it"], "try it", "exec"), names)
        return names


def test_the_network_of_the_page_keeps_its_promises(monkeypatch):
    page = Page("network")
    spec = NETWORKS[page.register(monkeypatch, NETWORKS)]
    published = spec.network(1, 2).parameters()
    assert round(sum(each.numel() for each in published) / 1e6, 2) == spec.parameters
    network = page.try_it()["network"].eval()
    image = torch.rand(2, 1, 64, 48)
    torch.testing.assert_close(network(image), network.decode(*network.encode(image)))
    with network.collect_taps(*network.taps) as features:
        network(image)
    for name, feature in features.items():
        scale = {"half": 2, "quarter": 4, "eighth": 8}[name.split("_")[1]]
        assert feature.shape[-2:] == (64 // scale, 48 // scale)


def test_the_metric_of_the_page_is_scored_and_pooled(monkeypatch):
    page = Page("metric")
    page.register(monkeypatch, COUNT_METRICS)
    page.try_it()


def test_volumes_of_the_page_open_and_are_a_domain(monkeypatch, tmp_path):
    page = Page("volume_format")
    page.register(monkeypatch, FORMATS)
    page.try_it()
    (tmp_path / "broken.mha").write_bytes(b"no header")
    with pytest.raises(InputError, match=r"broken\.mha cannot be read"):
        open_volume(tmp_path / "broken.mha")


def test_a_run_takes_what_the_pages_add(monkeypatch, tiny_content, tmp_path):
    network = Page("network").register(monkeypatch, NETWORKS)
    metric = Page("metric").register(monkeypatch, COUNT_METRICS)
    pages = Page("method"), Page("stage")
    method, stage = (
        page.register(monkeypatch, registry)
        for page, registry in zip(pages, (METHODS, STAGES), strict=True)
    )
    content = tiny_content | {"student": {"name": network, "options": {"width": 2}}}
    of_method, of_stage = (yaml.safe_load(page.blocks["recipe"]) for page in pages)
    content |= of_method | {"stages": content["stages"] | of_stage["stages"]}
    events = []
    recipe = Recipe.validated(content, "tiny")
    distil(recipe, tmp_path / "run", device="cpu", listener=events.append)
    steps = {each.stage: each for each in events if each.kind == "step_done"}
    assert set(steps["distil"].losses) == {"segmentation/ce", f"{method}/confident"}
    assert list(steps)[-1] == stage and set(steps[stage].losses) == {f"{stage}/ce"}
    assert read_card(tmp_path / "run" / "model.safetensors").architecture == network
    report = json.loads((tmp_path / "run" / "report" / "report.json").read_text())
    assert metric in report["distilled"]["scores"]["B"]["mean"]


def test_a_recipe_without_the_stage_of_the_page_skips_it(monkeypatch, make_recipe):
    stage = Page("stage").register(monkeypatch, STAGES)
    assert make_recipe().stages[stage].steps == 0


def test_a_wrong_option_of_the_method_is_refused_by_name(monkeypatch, make_recipe):
    method = Page("method").register(monkeypatch, METHODS)
    with pytest.raises(InputError, match="confidence"):
        make_recipe(distillation=[{"method": method, "confidence": 2.0}])
