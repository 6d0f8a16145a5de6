"""What guards the rest: sealed secrets, allowed networks, passwords, tokens, permissions."""
