"""Reads the header of a GGUF file, in Python alone, with every byte taken as hostile.

Knows the format and what llama.cpp makes of it; knows nothing of folders, names or engines.
"""
