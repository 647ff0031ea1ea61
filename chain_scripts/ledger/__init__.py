"""The audit's logic: the ledger rebuilt from events alone, and everything it is compared with.

`fold` turns events into a `Ledger`; `compare` holds it against a `Snapshot` of the contracts; `vouchers`, `books`,
`receipts` and `payments` go from claims to what clients signed and to the work behind it. All of that is pure;
`snapshot` and `collect` do the asking.
"""
