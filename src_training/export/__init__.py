"""Export of models as an ONNX file, or as a folder for bioimage.io."""

from src_training.export.bioimageio import export_bioimageio
from src_training.export.onnx import OnnxCheck, export_onnx

__all__ = ["OnnxCheck", "export_bioimageio", "export_onnx"]
