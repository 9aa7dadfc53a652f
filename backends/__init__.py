"""Runtime plugins of bladescan, one module each; found through entry points, never named in code."""
