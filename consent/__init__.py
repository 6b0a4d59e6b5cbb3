"""Consent: what she allowed, to whom, why, until when. Pure; of the project it imports `contracts.vocabulary` only.

* `consent.record`: what a consent is, handed in (`ConsentDraft`) and recorded (`ConsentRecord`).
* `consent.validity`: what makes one valid. `consent.lifecycle`: how it begins, changes and ends.
* `consent.decision`: did she allow this, to them, for this, now?
* `consent.receipt`: her copy, and the copy cut to one receiver. `consent.client_code`: handles that cannot be joined.
* `consent.statements`: the reviewed words with which she is asked.
"""
