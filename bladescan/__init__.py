"""bladescan: tell AI-generated faces from photographs, in batches.

Implements BLADES (Zou et al., "Bi-Level Optimization for Self-Supervised AI-Generated Face
Detection", ICCV 2025). The command is ``bladescan``; ``bladescan.scanning.pipeline`` is its library door.
"""

import os

# onnxruntime keeps usage records for its maker unless told not to. What is scanned here is nobody's business.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
