"""From images on disk to training batches: domains, preprocessing, augmentation, sampling."""
