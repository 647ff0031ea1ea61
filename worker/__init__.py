"""The worker program: hosts some layers of a model, serves paid requests, signs and keeps receipts for them."""
