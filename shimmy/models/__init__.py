"""Which models there are, by which name, and which of them are loaded.

Knows files and engines; knows nothing of HTTP, of llama.cpp's memory or of who asks.
"""
