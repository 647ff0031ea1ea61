"""Access to a chain: the contracts' bindings, transactions, events, keys, deployments, and a local chain."""
