"""Loss terms that training stages and distillations share.

`segmentation` compares logits with masks, `divergence` compares two predictions,
`regions` computes the mean features of the regions of a mask.
"""
