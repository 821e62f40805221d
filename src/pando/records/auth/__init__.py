"""Sign-in: tokens, passwords, who is asking, and what the sign-in routes answer. See ../DESIGN.md."""
