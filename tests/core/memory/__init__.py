"""Tests of the memory estimate and the roofline."""
