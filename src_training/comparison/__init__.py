"""Comparisons of several runs: planning, scheduling and scoring."""
