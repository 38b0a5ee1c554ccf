"""The control blocks of TMQ-RPC 1 as protobuf classes, for those who want to read or write the wire by themselves.

The other modules in this folder are made from ``proto/`` by ``python -m tests._generated`` and not edited. The adapter
does not import them (it reads and writes these blocks by hand, see `_blocks.py`); its tests do, as the judge of that.
"""
