"""The demo: a sample voice that ships with the package and the settings it is trained with."""
