"""What PyInstaller asks a package for, through its entry point: the folder of hook-tinyrnn.py."""


def folders() -> list[str]:
    """This folder."""
    return [*__path__]
