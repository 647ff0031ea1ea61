"""Synthetic trials for the step verifier: an element, random operands, sparse trees over them, and the right answer.

`opened` holds the operands' bytes, `answers` says what follows from them, in plain integers and from docs/trace.md alone;
`filling` makes operands that a valid trace could hold, `trial` puts trees around them.
"""
