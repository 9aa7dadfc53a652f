"""bladescan: tell AI-generated faces from photographs, in batches.

Implements BLADES (Zou et al., "Bi-Level Optimization for Self-Supervised AI-Generated Face
Detection", ICCV 2025). The command is ``bladescan``; ``bladescan.scanning`` is its library door.
"""

__version__ = "0.1.0"
