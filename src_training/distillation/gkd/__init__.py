"""GKD, generalizable knowledge distillation (arXiv 2207.12995).

The published sum has the dual contrastive graphs of `DCGD` and the cross
distillation of `DICD`. What the graphs and headers are is published, the form of
the losses is our *reconstruction*. `ViewPredictions` is a term of our own: the
graphs compare views by one vector each, which says little about where a vessel
lies. With it the student also learns to predict for anchor and views, each in
the style of another scanner, what the teacher predicts where it is best: for the
anchor without style augmentation.
"""

from src_training.distillation.gkd.dcgd import DCGD
from src_training.distillation.gkd.dicd import DICD
from src_training.distillation.gkd.options import GKDOptions
from src_training.distillation.gkd.view_predictions import ViewPredictions

__all__ = ["DCGD", "DICD", "GKDOptions", "ViewPredictions"]
