"""ONNX files as nets, without the onnx package."""
