"""How the compiled libraries are built: setup.py's own code, which is not installed."""
