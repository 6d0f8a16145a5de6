"""How processes talk: messages, request and reply, feeds."""
