"""Titles of losses for legends, without importing torch or the methods."""

LOSS_TITLES = {
    "total": "Total",
    "segmentation/ce": "Cross-entropy",
    "segmentation/dice": "Dice loss",
    "segmentation/focal": "Focal loss",
    "segmentation/auxiliary": "Auxiliary output",
    "autoencoder/bce": "Binary cross-entropy",
    "autoencoder/dice": "Dice loss",
    "autoencoder/reconstruction": "Bottleneck reconstruction",
    "alignment/latent": "Semantic vectors",
    "alignment/reconstruction": "Bottleneck reconstruction",
    "alignment/ce": "Cross-entropy",
    "alignment/kl": "Prediction agreement (KL)",
    "paraphraser/reconstruction": "Feature reconstruction",
    "gkd/intra": "GKD star graph",
    "gkd/inter": "GKD complete graph",
    "gkd/cross": "GKD cross distillation",
    "gkd/predictions": "GKD predictions",
    "emkd/pmd": "EMKD prediction maps",
    "emkd/imd_low": "EMKD importance maps, 1/2",
    "emkd/imd_high": "EMKD importance maps, 1/8",
    "emkd/rad_low": "EMKD region affinity, 1/2",
    "emkd/rad_high": "EMKD region affinity, 1/8",
    "logits/logits": "Logits KD",
    "function_matching/matching": "Function matching",
    "masks/ce": "Masks in every view",
    "masks/mixed": "Masks of mixed patches",
    "attention/attention": "Attention maps",
    "fsp/flow": "FSP flow matrices",
    "ifvd/variation": "IFVD intra-class variation",
    "skd/pairwise": "SKD pair-wise similarity",
    "coco/correlation": "CoCo correlation",
} | {
    f"{method}/{loss}": f"{title} {name}"
    for method, title in (
        ("graph_flow", "Graph Flow"),
        ("graph_flow_normalised", "Graph Flow, normalised,"),
    )
    for loss, name in (
        ("vertices", "nodes"),
        ("edges", "edges"),
        ("prediction", "predictions"),
        ("adversarial", "adversarial"),
        ("critic", "critic"),
    )
}
"""Namespaced loss -> title in a legend."""


def loss_title(name: str) -> str:
    """Title of a loss in a legend; derived from the name if it is not in `LOSS_TITLES`.

    >>> loss_title("gkd/intra"), loss_title("mine/soft_edges")
    ('GKD star graph', 'mine: soft edges')
    """
    return LOSS_TITLES.get(name) or name.replace("/", ": ").replace("_", " ")
