"""The protocol as pure data and decisions: signed objects, Merkle trees, vouchers, receipts, frames, pricing, drawing.

No clock, socket, disk, chain or tensor library; `docs/protocol.md` is the specification.
"""
