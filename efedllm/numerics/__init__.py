"""The integer semantics of inference (docs/numerics.md): a plain-integer reference, torch ops and their back ends.

`errors`, `limits`, `tables`, `sampling_parameters` and `reference` import without torch.
"""
