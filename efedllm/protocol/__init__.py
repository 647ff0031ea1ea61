"""The rules both sides and the chain must agree on: pure data and pure functions."""
