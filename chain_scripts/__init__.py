"""One verb per file: what people and programs do to a chain."""
