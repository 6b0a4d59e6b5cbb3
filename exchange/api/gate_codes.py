"""The codes of the gate: contract, consent and roster say no. Each entry says what to do."""

from __future__ import annotations

from typing import Final

from exchange.api.catalogue import Entry
from exchange.schemas.problems import Who

_SENDER, _NODE, _PEER = Who.SENDER, Who.NODE, Who.PEER

OF_A_REFERRAL: Final = (
    Entry(
        "never",
        403,
        _SENDER,
        "This field never goes to this kind of agency",
        "The contract forbids it, whatever anybody consents to. Send the referral without the field. Nothing "
        "was stored.",
    ),
    Entry(
        "no-rule",
        403,
        _SENDER,
        "No rule of the contract covers this",
        "The contract between the two agencies has no rule for this kind of agency and this service. Choose "
        "another receiver or service. Nothing was stored.",
    ),
    Entry(
        "no-contract",
        403,
        _SENDER,
        "No contract is in force between the two agencies",
        "Both agencies have to adopt the same contract before anything may be sent. Ask whoever runs your node.",
    ),
    Entry(
        "contract-expired",
        403,
        _SENDER,
        "The contract has ended",
        "Nothing new may be sent under it. Both agencies have to adopt its next version.",
    ),
    Entry(
        "basis-not-allowed",
        403,
        _SENDER,
        "The contract does not accept the ground of this consent",
        "The rule lists on which grounds her data may move, and this consent's is not among them. Nothing was stored.",
    ),
    Entry(
        "nothing-allowed",
        403,
        _SENDER,
        "Nothing of it may go",
        "Contract and consent together leave no field to send. Each entry of `fields` says why.",
    ),
    Entry(
        "no-field-allowed",
        403,
        _SENDER,
        "Her consent covers none of these fields",
        "Ask her whether this agency may be told, and record what she says.",
    ),
    Entry(
        "own-authorities",
        403,
        _SENDER,
        "She does not want her own authorities told",
        "She asked that the authorities of her country are avoided. Nothing was stored.",
    ),
    Entry(
        "synthetic-mixed",
        403,
        _SENDER,
        "Invented and real people do not mix",
        "One of the two agencies is a sandbox or demo. Choose a receiver of the same kind.",
    ),
    Entry(
        "same-agency",
        403,
        _SENDER,
        "The receiver is this agency itself",
        "Choose another receiver.",
    ),
    Entry(
        "sender-not-active",
        403,
        _NODE,
        "This agency may not refer at the moment",
        "It is suspended or has left the federation. Ask whoever runs the federation.",
    ),
    Entry(
        "receiver-not-active",
        403,
        _PEER,
        "The receiver takes no referrals at the moment",
        "It is suspended or has left the federation. Choose another receiver.",
    ),
    Entry(
        "not-referable",
        403,
        _SENDER,
        "Nobody is referred to this service",
        "It is listed in the directory only. Give her its contact instead.",
    ),
    Entry(
        "service-not-offered",
        403,
        _SENDER,
        "The receiver does not offer this service",
        "Choose another receiver or service.",
    ),
    Entry(
        "service-mismatch",
        403,
        _SENDER,
        "The content names another service",
        "Leave `service_type` out of the content.",
    ),
    Entry(
        "need-of-another-service",
        403,
        _SENDER,
        "A need belongs to another service",
        "Name needs of the requested service only.",
    ),
    Entry(
        "return-not-voluntary",
        403,
        _SENDER,
        "She has not said that she wants to return",
        "Nobody is repatriated against her will. Ask her.",
    ),
    Entry(
        "return-not-assessed",
        403,
        _SENDER,
        "Whether a return is safe was not assessed",
        "Assess it first, and say so in the content.",
    ),
    Entry(
        "age-mismatch",
        403,
        _SENDER,
        "Content and consent name different ages",
        "Correct the one that is wrong.",
    ),
    Entry(
        "caregiver-of-adult",
        403,
        _SENDER,
        "An adult has no caregiver",
        "Nobody decides for her. Leave `caregiver` out.",
    ),
    Entry(
        "border-forbidden",
        403,
        _SENDER,
        "The contract lets nothing cross this border",
        "Choose a receiver in the same country.",
    ),
    Entry(
        "no-consent",
        403,
        _SENDER,
        "There is no such consent",
        "Record her consent first. Nothing was stored.",
    ),
    Entry(
        "consent-not-given",
        403,
        _SENDER,
        "Her consent does not hold yet",
        "She was asked and has not answered, or her yes starts later. Nothing was stored.",
    ),
    Entry(
        "consent-refused",
        403,
        _SENDER,
        "She said no",
        "Nothing may be sent under this consent.",
    ),
    Entry(
        "consent-expired",
        403,
        _SENDER,
        "Her consent has ended",
        "Ask her again before anything is sent.",
    ),
    Entry(
        "consent-withdrawn",
        403,
        _SENDER,
        "She took her consent back",
        "Nothing further may be sent under it.",
    ),
    Entry(
        "consent-revoked",
        403,
        _SENDER,
        "Her consent was ended by somebody else",
        "Ask her again before anything is sent.",
    ),
    Entry(
        "consent-invalidated",
        403,
        _SENDER,
        "This consent was found not to be valid",
        "Ask her again before anything is sent.",
    ),
    Entry(
        "limits-not-explained",
        403,
        _SENDER,
        "The limits of confidentiality were not explained before she agreed",
        "Explain them, ask her again, and record a new consent.",
    ),
    Entry(
        "recipient-not-covered",
        403,
        _SENDER,
        "She did not agree that this agency is told anything",
        "Compare the agency's id in her consent with the one in `to` first: one that is misspelt covers nobody. If "
        "they are the same, ask her about this agency, and record what she says.",
    ),
    Entry(
        "authority-not-named",
        403,
        _SENDER,
        "She has to have named this office",
        "An embassy, police, labour or immigration office may be told only if she named that office.",
    ),
    Entry(
        "not-told-first",
        403,
        _SENDER,
        "She was not told first what this office must report",
        "Tell her what it reports and to whom, whether she can leave, and what papers it asks for. Then ask her again; "
        "where something was disclosed to it before, refer her anew. A fresh disclosure that was refused for it goes "
        "after that, under a new Idempotency-Key; where her consent records what she was told, only a new referral "
        "does.",
    ),
    Entry(
        "border-not-named",
        403,
        _SENDER,
        "She has to have named the agency or the country",
        "Across a border a kind of agency is not enough. Ask her again.",
    ),
    Entry(
        "purpose-not-covered",
        403,
        _SENDER,
        "She did not agree to this purpose",
        "Ask her about this service, and record what she says.",
    ),
    Entry(
        "country-unknown",
        403,
        _NODE,
        "The country of an agency is not known",
        "The roster has to say it before anything crosses a border. Ask whoever runs the federation.",
    ),
)
"""What contract, consent and roster say about a referral that a node would seal."""

GATE: Final = (
    *OF_A_REFERRAL,
    Entry(
        "contract-not-in-force",
        403,
        _SENDER,
        "The contract of this referral is no longer in force",
        "Nothing further may be sent under it. Telephone the receiver, or refer her anew under the contract in force.",
    ),
    Entry(
        "another-authority",
        403,
        _SENDER,
        "The receiver acts for another country than when the referral was made",
        "Whether she avoids the authorities of that country was asked then at most, and is not kept. Nothing more is "
        "sent under this referral. Ask her, and refer her anew if she agrees.",
    ),
    Entry(
        "group-not-allowed",
        403,
        _SENDER,
        "Of one of the groups nothing may go",
        "Run the gate on the fields with the contract and the consent of today, and seal what it lets through.",
    ),
    Entry(
        "receipt-differs",
        403,
        _SENDER,
        "The receipt is not what the consent says",
        "Cut the receipt from the consent record of today, and seal again.",
    ),
    Entry(
        "signing-key-differs",
        403,
        _SENDER,
        "The roster lists another agency key",
        "Sign with the agency key that stands in the roster. If it was changed, install the newer roster.",
    ),
    Entry(
        "contract-differs",
        403,
        _SENDER,
        "The referral has another contract or purpose",
        "Use the contract and the purpose of the referral itself, to its end.",
    ),
    Entry(
        "feedback-level",
        403,
        _SENDER,
        "Her consent and the rule let less be told",
        "Report it with `POST /v1/inbox/{id}/progress`: it stays in your own record. If she stopped sharing since "
        "you sealed how the service ended, read the referral and seal only that it is over.",
    ),
)
"""What contract, consent and roster refuse."""
