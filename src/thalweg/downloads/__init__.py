"""What a library's own client can fetch where it is not on this machine, and only where the user asks for it."""
