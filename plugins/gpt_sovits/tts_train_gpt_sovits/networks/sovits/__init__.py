"""SoVITS networks of v1 to v4: generator, discriminators, flow matching and their losses."""
