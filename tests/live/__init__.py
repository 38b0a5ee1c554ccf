"""Tests of the live world: our own sockets at both ends, over every transport that fits."""
