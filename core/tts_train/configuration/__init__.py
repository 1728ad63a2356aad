"""From words of the command line and recipes to checked options."""
