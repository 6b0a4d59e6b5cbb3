"""The invented ids and moments that the examples share, so that they tell one story."""

from __future__ import annotations

from typing import Final

CONSENT: Final = "5d2f0c1ab94e4c7f8a6e1b3d9c7f0a21"
SUBJECT: Final = "0b7e64d2f18a4a3c9d50e6c2a8f31b47"
REFERRAL: Final = "9f4e2a60c1d84b6e8a1b0c5d7e3f2a94"
ITEM: Final = "3c81d7f05ae94b2f96b0d4e8172c5fa6"
OTHER_ITEM: Final = "d05b93e1476c4f8ab2e7c9061fd8a350"
CONTRACT: Final = "6b1f0d3c8e27a95440cb1f6de2703b98c5a44e1790fd62b387c1e05a9d4f8236"
ROSTER: Final = "e29c74a106bd5f38917e40d2c68b5a03f1d7926e4c80ba35f61d29e7840cb5a3"
ENVELOPE: Final = "1d90e6b7c254af38066f9b21d7ce8405ba13f2967d5c80e4a92b7f6130d8c5e4"
HELPLINE: Final = "harbour-helpline"
SHELTER: Final = "rose-house-shelter"
SENT_AT: Final = "2026-11-23T02:14:07.512Z"
RECEIVED_AT: Final = "2026-11-23T02:14:08.041Z"
ANSWERED_AT: Final = "2026-11-23T02:31:40.905Z"
RESPOND_BY: Final = "2026-11-24T02:14:07.512Z"
EXPIRES_AT: Final = "2026-11-25T02:14:07.512Z"
CONSENT_ENDS: Final = "2027-02-21T02:10:00.000Z"
SENT_NUMBER: Final = 1795400047512
ANSWER_NUMBER: Final = 1795401100905
"""Numbers of events, which a node takes from its clock."""
KEY: Final = "nJ0m9xqPZ2s5dVtR8yK3cW6uB1eLhA7fGo4iTQXvMzE"
"""32 bytes of nothing."""
STATEMENT: Final = "eyJhZ2VuY3kiOiJyb3NlLWhvdXNlLXNoZWx0ZXIifQ.c2lnbmF0dXJl"
