import hashlib
import os
import stat

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save, save_file

from src_training.data.preprocessing import FundusPreprocessing
from src_training.errors import InputError
from src_training.inference.model_card import ModelCard
from src_training.inference.model_file import load_model, read_card, save_model
from src_training.networks import NETWORKS, build_network
from tests.small_networks import SMALL_OPTIONS


@pytest.fixture
def saved(tiny_model, tmp_path):
    path = tmp_path / "tiny.safetensors"
    tiny_model().save(path)
    return path


def test_a_saved_model_loads_with_its_card_and_output(tiny_model, tmp_path):
    model = tiny_model()
    model.save(tmp_path / "a.safetensors")
    loaded = load_model(tmp_path / "a.safetensors")
    image = torch.rand(1, 1, 20, 23)
    assert loaded.card == model.card
    assert loaded.source == model.source == tmp_path / "a.safetensors"
    assert not loaded.network.training
    with torch.no_grad():
        assert torch.equal(loaded.network(image), model.network(image))


WEIGHTS = {
    "enet": "71120ee43bb1736e",
    "erfnet": "31049ec6d5f0f3af",
    "fanet": "6a113d9163eb4fa9",
    "mobile_unet": "87bec9da43e60435",
    "mobilenetv2": "6fbaa763d7e4940b",
    "pspnet": "6c5808b2177f02d5",
    "raunet": "43c9856f15e9ed2f",
    "resnet18": "b6ee233e3b36776f",
    "unet_plus_plus": "da2dbd846e255663",
}
"""SHA-256, shortened, of the names and shapes of each network's weights in model files."""


@pytest.mark.parametrize("name", sorted(WEIGHTS))
def test_weights_keep_the_names_that_files_hold(name):
    with torch.device("meta"):
        state = build_network(name, 3, 2).state_dict()
    lines = "\n".join(f"{key} {tuple(tensor.shape)}" for key, tensor in sorted(state.items()))
    assert hashlib.sha256(lines.encode()).hexdigest().startswith(WEIGHTS[name])


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_every_network_survives_its_file_with_buffers(name, tmp_path):
    options = SMALL_OPTIONS.get(name, {})
    network = build_network(name, 1, 2, **options)
    for buffer in network.buffers():
        buffer.add_(2)
    card = ModelCard(
        name=name,
        architecture=name,
        options=options,
        in_channels=1,
        classes=["background", "vessel"],
        preprocessing=FundusPreprocessing(),
        patch=64,
    )
    save_model(card, network, tmp_path / "a.safetensors")
    expected, found = network.state_dict(), load_model(tmp_path / "a.safetensors").network
    for key, tensor in found.state_dict().items():
        assert tensor.dtype == expected[key].dtype and torch.equal(tensor, expected[key])


def test_half_precision_files_load_as_float32(tiny_model, tmp_path):
    model = tiny_model()
    save_model(model.card, model.network.half(), tmp_path / "a.safetensors")
    parameters = load_model(tmp_path / "a.safetensors").network.parameters()
    assert {parameter.dtype for parameter in parameters} == {torch.float32}


def test_tied_weights_are_saved(tiny_model, tmp_path):
    model = tiny_model()
    model.network.up[1].bias = torch.nn.Parameter(model.network.up[0].bias[:2])
    model.save(tmp_path / "a.safetensors")
    loaded = load_model(tmp_path / "a.safetensors").network
    assert torch.equal(loaded.up[1].bias, model.network.up[0].bias[:2])


def test_the_sha_is_that_of_the_file(saved):
    expected = hashlib.sha256(saved.read_bytes()).hexdigest()
    assert load_model(saved).sha256 == expected


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_the_file_can_be_read_by_whom_the_umask_allows(saved):
    other = saved.with_name("other")
    other.touch()
    assert stat.S_IMODE(saved.stat().st_mode) == stat.S_IMODE(other.stat().st_mode)


def test_a_failed_save_leaves_the_former_file(saved, tiny_model, largest_file):
    before = saved.read_bytes()
    with largest_file(100), pytest.raises(OSError, match="too large"):
        tiny_model(seed=1).save(saved)
    assert saved.read_bytes() == before and list(saved.parent.iterdir()) == [saved]


def test_the_card_is_read_without_the_weights(saved):
    card = read_card(saved)
    header = int.from_bytes(saved.read_bytes()[:8], "little")
    assert card.name == "tiny" and header < saved.stat().st_size


@pytest.mark.parametrize("keep", [0, 4, 100, 0.5, -1])
def test_a_truncated_file_is_refused_in_one_sentence(saved, keep):
    content = saved.read_bytes()
    saved.write_bytes(content[: int(len(content) * keep) if 0 < keep < 1 else keep])
    words = r"tiny\.safetensors: .*whole \.safetensors file"
    with pytest.raises(InputError, match=words) as caught:
        load_model(saved)
    assert "\n" not in str(caught.value)


def test_a_pickle_is_refused_unread(tmp_path):
    path = tmp_path / "a.safetensors"
    torch.save({"weight": torch.zeros(3)}, path)
    with pytest.raises(InputError, match="cannot be read"):
        load_model(path)


def test_weights_without_a_card_are_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(save({"weight": torch.zeros(3)}))
    with pytest.raises(InputError, match="no card"):
        load_model(path)


@pytest.mark.parametrize("missing", [True, False])
def test_weights_that_do_not_fit_are_named(saved, missing):
    weights = load_file(saved)
    if missing:
        del weights["up.1.bias"]
    else:
        weights["extra"] = torch.zeros(1)
    save_file(weights, saved, {"msankd": read_card(saved).model_dump_json()})
    with pytest.raises(InputError, match=r"up\.1\.bias is missing" if missing else "extra"):
        load_model(saved)


@pytest.mark.parametrize("name", ["nothing", "nothing.safetensors", "."])
def test_a_model_that_is_not_there_is_named(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="there is no such model"):
        load_model(name)


def test_weights_go_to_numpy_unchanged(saved, tiny_model):
    for name, tensor in tiny_model().network.state_dict().items():
        np.testing.assert_array_equal(load_file(saved)[name], tensor)
