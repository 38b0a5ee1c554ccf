"""The live machinery: reactor, sessions, engines, and what all sockets share. See DESIGN.md for how they hang together."""
