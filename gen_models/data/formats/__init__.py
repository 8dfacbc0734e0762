"""Readers of own data, one file a format: `read(name, report) -> Content`.

A reader opens what the name says and decodes as little as it can: rows stay in a memory map or are
read one by one (`Records`) until someone asks for them.
"""
