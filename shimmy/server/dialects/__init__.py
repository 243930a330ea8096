"""APIs that clients speak, each a module of pure functions between its JSON and the engine's types.

A dialect module has the functions of `types.Dialect`. None of them does I/O or keeps state.
"""
