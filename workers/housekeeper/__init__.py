"""The housekeeper: what must be done again and again, and nobody should wait for."""
