"""Loss terms that several stages and distillations share.

`segmentation` compares logits with masks, `divergence` compares two predictions,
`regions` brings features and masks to one size.
"""
