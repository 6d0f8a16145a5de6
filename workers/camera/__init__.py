"""The process of one camera: from its source to its events."""
