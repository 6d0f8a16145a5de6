"""The manager: desired cameras in, running camera processes out."""
