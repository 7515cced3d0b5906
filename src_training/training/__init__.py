"""Stages, the loop under them, and runs that outlive their window."""
