"""Databases, locks and folders that outlive a crash; nothing here knows what is kept in them."""
