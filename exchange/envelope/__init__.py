"""Sealed, signed envelopes. Pure: bytes in, bytes out; time, keys and randomness are arguments."""
