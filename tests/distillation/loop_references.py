"""Terms of losses as loops over pixels, in numpy and float64."""

import math

import numpy as np


def found(distillation, teacher, student, mask):
    return {name: loss.item() for name, loss in distillation(teacher, student, mask).items()}


def arrays(each):
    return {name: feature.numpy() for name, feature in each.taps.items()}, each.logits.numpy()


def softmax(logits):
    powers = [math.exp(value) for value in logits]
    return [power / sum(powers) for power in powers]


def divergence(teacher, student, temperature):
    terms = []
    for b, y, x in np.ndindex(teacher.shape[0], *teacher.shape[2:]):
        p, q = (
            softmax(teacher[b, :, y, x] / temperature),
            softmax(student[b, :, y, x] / temperature),
        )
        terms.append(sum(a * math.log(a / c) for a, c in zip(p, q, strict=True)))
    return temperature**2 * sum(terms) / len(terms)


def unit(vector):
    return np.asarray(vector) / math.sqrt(sum(value**2 for value in vector))


def cosine(a, b):
    return float(sum(x * y for x, y in zip(unit(a), unit(b), strict=True)))


def pixels(feature):
    """Feature vectors of one sample (C, h, w), in reading order."""
    return [feature[:, y, x] for y, x in np.ndindex(*feature.shape[1:])]
