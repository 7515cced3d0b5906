"""``msankd`` in double precision, so that the order of sums over processes hardly matters."""

import torch
from torch import Tensor
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils._pytree import tree_map_only

from src_training.cli import main
from src_training.training.distributed import launch


def widened(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)
    register_module_forward_pre_hook(lambda _, given: tree_map_only(Tensor, widened, given))
    launch.training_precision = lambda device: "64-true"
    main()
