"""Consent: what she allowed, to whom, why, until when. Pure; may import `contracts.vocabulary` only."""
