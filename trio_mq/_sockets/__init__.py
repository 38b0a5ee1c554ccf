"""The public sockets, one file a family: which pattern, and whether it sends, receives, or both."""
