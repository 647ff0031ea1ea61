"""Exact, paid, receipted inference of large language models by machines that need not trust each other."""

__version__ = "0.1.0"
