"""Teachers that are used by their outputs alone: ONNX models, and ensembles."""
