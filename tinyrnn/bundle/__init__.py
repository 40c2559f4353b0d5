"""The entry point of PyInstaller: the folder of hook-tinyrnn.py."""


def folders() -> list[str]:
    """This folder."""
    return [*__path__]
