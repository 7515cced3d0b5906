"""Several processes compute the same losses and gradients as a single one."""

import copy

import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

from src_training.alignment.alignment_network import AlignmentNetwork
from src_training.alignment.semantic_autoencoder import SemanticAutoencoder
from src_training.config.stages import StageSchedule
from src_training.data.sampling import Batch
from src_training.distillation import METHODS, build_distillations, parse_options
from src_training.distillation.gkd.dicd import frozen_running_statistics
from src_training.networks import build_network
from src_training.runs.monitor import EventCallback
from src_training.training.distributed.process_group import ProcessGroup
from src_training.training.distributed.sync_batch import all_gather_samples, sync_batch
from src_training.training.stages.alignment import AlignmentStage
from src_training.training.stages.autoencoder import AutoencoderStage, VectorStage
from src_training.training.stages.base import Stage
from src_training.training.stages.distillation import (
    DistillationStage,
    ParaphraserStage,
)
from src_training.training.stages.supervised import SupervisedStage
from src_training.training.train_step import TrainStep

SIDE, VIEWS = 32, 2


def in_two_processes(check, *arguments):
    Fabric(accelerator="cpu", devices=2, strategy="ddp_spawn").launch(check, *arguments)


def step(stage, batch, group):
    """Losses, gradients and statistics after one pass of a batch."""
    torch.manual_seed(1)
    stage.zero_grad()
    own = group.shard(batch) if group else batch
    share = len(own.image) / len(batch.image)
    if group:
        with sync_batch(group, batch):
            losses = stage(own)
    else:
        losses = stage(own)
    (share * stage.total(losses)).backward()
    parameters = [each for group in stage.param_groups() for each in group["params"]]
    used = [each for each in parameters if each.grad is not None]
    weighted = share * torch.stack(list(losses.values())).detach()
    if group:
        group.all_reduce_gradients(used)
        weighted = group.all_reduce(weighted)
    named = dict(zip(losses, weighted, strict=True))
    return named, [each.grad for each in used], dict(stage.named_buffers())


def stages():
    """Every stage but the last, and networks with dropout and with a norm of single values."""
    torch.manual_seed(0)
    teacher = build_network("fanet", 1, 3, width=2)
    autoencoder = SemanticAutoencoder(2, SIDE, 2, latent=8, hidden=4, image_channels=1)
    tan = alignment(teacher)
    yield AutoencoderStage(autoencoder)
    yield VectorStage(autoencoder)
    yield AlignmentStage("tan", tan, teacher, autoencoder)
    for form in ("ce", "dice_ce", "dice_focal"):
        yield SupervisedStage("teacher", copy.deepcopy(teacher), form)
    yield SupervisedStage("enet", build_network("enet", 1, 3), "dice_ce")
    yield SupervisedStage("pspnet", build_network("pspnet", 1, 3, width=2), "dice_ce")


def last_stages(methods):
    """The last stage by each method, after that of its paraphraser."""
    torch.manual_seed(0)
    teacher = build_network("fanet", 1, 3, width=2)
    for method in methods:
        student = build_network("fanet", 1, 3, width=2)
        of_gkd = {"scope": "batch", "edge_loss": "softmax", "predictions": 1.0, "views": VIEWS}
        options = parse_options({"method": method, **(of_gkd if method == "gkd" else {})})
        parts = build_distillations([options], teacher, student)
        if paraphrased := [each for each in parts if each.has_paraphraser]:
            yield ParaphraserStage(paraphrased, teacher)
        networks = (student, alignment(student)), (teacher, alignment(teacher))
        yield DistillationStage(*networks, parts, "dice_ce")


def alignment(network):
    side = SIDE // network.stride
    return AlignmentNetwork(network.bottleneck_channels, (side, side), 8, 4)


def batches(views):
    """Three samples, over two processes: all of them labelled, and two."""
    torch.manual_seed(2)
    image, mask = torch.rand(3, 1, SIDE, SIDE).double(), torch.randint(3, (3, SIDE, SIDE))
    further = torch.rand(3 * views, 1, SIDE, SIDE).double() if views else None
    plain = torch.rand(3, 1, SIDE, SIDE).double()
    return Batch(image, mask, further, plain), Batch(image, mask[:2], further, plain)


def assert_same(group, stage, batch):
    """One process and several, from the same weights in double precision."""
    stage.double().train()
    spread = copy.deepcopy(stage)
    expected, results = step(stage, batch, None), step(spread, batch, group)
    torch.testing.assert_close(results, expected, rtol=1e-6, atol=1e-9)


def assert_norm(group):
    """Maps and vectors, in parts of different size; frozen running statistics do not change."""
    torch.manual_seed(3)
    for norm, values in (
        (nn.BatchNorm2d(4), 3 + 2 * torch.randn(5, 4, 6, 7)),
        (nn.BatchNorm1d(4), torch.randn(3, 4)),
    ):
        nn.init.normal_(norm.weight)
        assert_same(group, Squares(norm), Batch(values.double(), torch.zeros(len(values))))
        with (
            frozen_running_statistics(norm),
            sync_batch(group, Batch(values, torch.zeros(len(values)))),
        ):
            kept = norm.running_var.clone()
            norm(group.shard(Batch(values.double(), torch.zeros(len(values)))).image)
        assert torch.equal(norm.running_var, kept)


def assert_gathered_in_order(group):
    """Samples, labelled samples and draws are those of the whole batch, in its order."""
    image = torch.arange(10.0).view(5, 2)
    batch = Batch(image, torch.arange(3), torch.zeros(10, 2))
    own = group.shard(batch)
    torch.manual_seed(5)
    expected = torch.rand_like(image)
    torch.manual_seed(5)
    with sync_batch(group, batch):
        assert torch.equal(all_gather_samples(own.image), batch.image)
        assert torch.equal(all_gather_samples(own.mask), batch.mask)
        drawn = all_gather_samples(torch.rand_like(own.image))
    assert torch.equal(drawn, expected)
    assert all_gather_samples(own.image) is own.image


class Squares(Stage):
    """A loss of a layer's output in which every value has another weight."""

    def __init__(self, layer):
        super().__init__("squares", layer)

    def forward(self, batch):
        output = self.trained(batch.image)
        weight = torch.linspace(-1, 2, output[0].numel()).view_as(output[0])
        return {"squares": (weight * (output - batch.image.detach().cos()).square()).mean()}


class Noise:
    def sample(self, count, views, device):
        return Batch(torch.randn(count, 4), torch.zeros(count))


def assert_memory_may_be_full(fabric, group, backward):
    """One process runs out of memory while the other waits for it; both then split the batch."""
    torch.manual_seed(4)
    layers = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 4), nn.BatchNorm1d(4))
    stage, splits = Squares(layers), []
    passes = []

    def fail(*_):
        passes.append(group.rank)
        if passes == [1]:
            raise torch.OutOfMemoryError("CUDA out of memory")

    if backward:
        layers[1].weight.register_hook(fail)
    else:
        layers[1].register_forward_pre_hook(fail)
    train_step = TrainStep(
        stage.train(),
        StageSchedule(steps=2, batch=8, rate=0.01),
        Noise(),
        fabric=fabric,
        group=group,
        seed=1,
        weight_decay=0.0,
        callbacks=[EventCallback(splits.append)],
    )
    totals = [train_step(number).total for number in range(2)]
    assert [(each.step, each.parts) for each in splits] == [(1, 2)]
    assert totals == [group.broadcast(total) for total in totals]


def check(fabric, methods):
    group = ProcessGroup(fabric)
    assert_norm(group)
    assert_gathered_in_order(group)
    for backward in (False, True):
        assert_memory_may_be_full(fabric, group, backward)
    for stage in stages():
        assert_same(group, stage, batches(stage.views)[0])
    check_methods(fabric, methods)


def check_methods(fabric, methods):
    for stage in last_stages(methods):
        for batch in batches(stage.views):
            assert_same(ProcessGroup(fabric), stage, stage.prepare(batch))


OFTEN = ["gkd", "ifvd"]


def test_losses_gradients_and_statistics_equal_one_process():
    in_two_processes(check, OFTEN)


@pytest.mark.slow
def test_every_other_method_equals_one_process():
    in_two_processes(check_methods, [method for method in METHODS if method not in OFTEN])
