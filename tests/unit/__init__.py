"""Tests of the pure world and of single pieces, with fakes at their edges; the kernel is not met here."""
