"""The Gaussian mixture, the perceptron, and the detector that they make with an encoder."""
