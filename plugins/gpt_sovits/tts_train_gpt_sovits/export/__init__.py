"""What upstream's tools load, written from runs of ours and read back."""
