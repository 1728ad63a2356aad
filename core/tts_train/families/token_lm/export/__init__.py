"""Trained models as files that other tools load; each is loaded back and compared before it is called done."""
