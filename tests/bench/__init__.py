"""What costs what, as ratios measured in one run, so that they carry to other machines."""
