"""The live machinery: reactor, sessions, engines, and what all sockets share. DESIGN.md says how they hang together."""
