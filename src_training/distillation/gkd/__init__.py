"""GKD, generalizable knowledge distillation (arXiv 2207.12995).

The published loss sums the dual contrastive graphs of `DCGD` and the cross
distillation of `DICD`. The graphs and headers are published; the form of the
losses is our *reconstruction*. `ViewPredictions` is our own term: the graphs
compare one vector per view, which carries little information about where a
vessel lies. With this term the student also learns, for the anchor and for each
view in another scanner's style, the teacher's prediction of the anchor without
style augmentation, on which the teacher is most accurate.
"""

from src_training.distillation.gkd.dcgd import DCGD
from src_training.distillation.gkd.dicd import DICD
from src_training.distillation.gkd.options import GKDOptions
from src_training.distillation.gkd.view_predictions import ViewPredictions

__all__ = ["DCGD", "DICD", "GKDOptions", "ViewPredictions"]
