"""From a text to sound with a run, a checkpoint or an export."""
