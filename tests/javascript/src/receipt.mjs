/** Section 9, step 11: the consent receipt covers an envelope at a time. */
import { framed, TAGS, unbase64url } from "./bytes.mjs";
import { canonicalBytes } from "./canonical.mjs";
import { verifySignature } from "./keys.mjs";
import { Refusal } from "./refusal.mjs";

export const SKEW = 2 * 60 * 1000;

/**
 * @param {Record<string, any>} header of a forward
 * @param {Uint8Array} issuerKey the issuer's agency key
 * @param {number} at
 */
export function checkReceipt(header, issuerKey, at) {
  const { signature, ...body } = header.receipt;
  const same = body.issuer === header.from && body.recipient === header.to && body.purpose === header.purpose;
  const covered = header.groups.every((/** @type {string} */ group) => group === "routing" || body.groups.includes(group));
  if (!same || !covered) throw new Refusal("receipt-mismatch");
  if (at < body.issued - SKEW || at >= body.expires + SKEW) throw new Refusal("receipt-expired");
  const input = framed(TAGS.CONSENT_RECEIPT, canonicalBytes(body));
  if (!verifySignature(unbase64url(signature, "receipt.signature"), input, issuerKey)) throw new Refusal("receipt-signature");
}
