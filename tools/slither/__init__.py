"""Slither over the contracts, without a download: its own environment, our compiler, and an answer to each finding."""
