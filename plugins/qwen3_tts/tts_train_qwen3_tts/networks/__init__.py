"""The networks of every size, in torch only, and where the speaker encoder is read from."""
