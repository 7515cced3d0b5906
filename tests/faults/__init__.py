"""Behavior in case of crashes, full disks, malicious or damaged files, and little memory."""
