"""Speaking with a GPT and a SoVITS: loading, references and the ``synth`` job."""
