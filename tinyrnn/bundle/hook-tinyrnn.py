"""A bundle of PyInstaller has all modules: they are imported by name, which it does not see."""

from PyInstaller.utils.hooks import collect_submodules  # type: ignore[import-untyped]

hiddenimports = collect_submodules("tinyrnn", lambda name: name != "tinyrnn.onnx_backend")
