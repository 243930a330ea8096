"""What GET /metrics tells: counted where it happens, put into words when it is asked for."""
