"""Kullback-Leibler divergences between the predictions of two networks."""

import torch.nn.functional as F
from torch import Tensor


def pixel_divergence(reference: Tensor, candidate: Tensor) -> Tensor:
    """KL(softmax(reference) || softmax(candidate)), summed over classes, mean over pixels.

    Parameters
    ----------
    reference, candidate
        Logits (B, classes, H, W).

    Returns
    -------
    Tensor
        Scalar, >= 0.

    Examples
    --------
    >>> import torch
    >>> even = torch.zeros(1, 2, 1, 1)
    >>> round(pixel_divergence(even, even).item(), 6)
    0.0
    >>> certain = torch.tensor([-100.0, 0.0]).view(1, 2, 1, 1)
    >>> round(pixel_divergence(certain, even).item(), 6)  # log 2
    0.693147
    """
    log_p, log_q = F.log_softmax(reference, 1), F.log_softmax(candidate, 1)
    return F.kl_div(log_q, log_p, log_target=True, reduction="none").sum(1).mean()


def softened_divergence(teacher: Tensor, student: Tensor, temperature: float) -> Tensor:
    """T² KL(softmax(t / T) || softmax(s / T)), mean over pixels (arXiv 1503.02531, section 2.1).

    The factor T² keeps the size of the gradients independent of the temperature.

    Parameters
    ----------
    teacher, student
        Logits t and s, (B, classes, H, W).
    temperature
        T, > 0; 1 gives `pixel_divergence`.

    Returns
    -------
    Tensor
        Scalar, >= 0.

    Examples
    --------
    >>> import torch
    >>> teacher, student = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    >>> t, s = teacher.view(1, 2, 1, 1), student.view(1, 2, 1, 1)
    >>> round(softened_divergence(t, s, temperature=1.0).item(), 2)
    1.52
    >>> round(softened_divergence(t, s, temperature=4.0).item(), 2)
    1.96
    """
    return temperature**2 * pixel_divergence(teacher / temperature, student / temperature)
