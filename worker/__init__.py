"""The worker program: serves a range of layers for payment."""
