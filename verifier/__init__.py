"""The verifier program: recomputes drawn receipts and names the worker at fault."""
