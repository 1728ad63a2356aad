"""The streamed optimizer: steps each parameter in backward, with states in host memory or in 8 bits."""
