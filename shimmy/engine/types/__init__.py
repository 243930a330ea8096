"""Values that cross the border between a client of the engine and a worker: pure data.

Nothing here opens a file, starts a thread or knows of HTTP. The worker imports this package and
nothing else of `shimmy.engine`.
"""
