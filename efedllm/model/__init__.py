"""Models in integer form: the format, building, loading, caching and generating."""
