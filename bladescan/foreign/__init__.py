"""Other people's networks as ONNX: described by a layout, checked, and put into one graph. It fits none."""
