"""Where other programs keep models, and how they lay them out.

Knows folders, links and manifests; opens no GGUF.
"""
