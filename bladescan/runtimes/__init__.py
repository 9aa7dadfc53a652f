"""The protocol and the registry of runtimes, and what several of them share. It is no runtime itself."""
