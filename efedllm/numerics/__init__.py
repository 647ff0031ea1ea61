"""Integer tensor semantics: the same input gives the same bits on every machine."""
