"""Contracts from Python: bindings, transactions, events, a local chain."""
