/** Section 4: statements. One is used only after it was verified with a key of the kind its row names. */
import { sha256 } from "@noble/hashes/sha2.js";
import { concat, framed, hex, TAGS, unbase64url } from "./bytes.mjs";
import { canonicalBytes, readCanonical } from "./canonical.mjs";
import { verifySignature } from "./keys.mjs";
import * as is from "./members.mjs";
import { Refusal, refusing } from "./refusal.mjs";

const CAP = 4096;
const MALFORMED = "statement-malformed";

/** @type {Readonly<Record<string, Record<string, is.Check>>>} */
export const BODIES = Object.freeze({
  [TAGS.DELIVERY_RECEIPT]: {
    envelope: is.id,
    digest: is.digest,
    sender: is.agency,
    recipient: is.agency,
    referral: is.id,
    received_at: is.time,
  },
  [TAGS.RELEASE]: {
    disclosure: is.digest,
    referral: is.id,
    number: is.from1,
    accepting: is.digest,
    released_at: is.time,
    roster_version: is.from1,
    consent_live_at: is.time,
  },
  [TAGS.CONSENT_STATUS]: { agency: is.agency, recipient: is.agency, receipts: is.digest, stated_at: is.time },
  [TAGS.ADHERENCE]: { agency: is.agency, contract: is.digest, adopted_at: is.time },
  [TAGS.EPOCH_KEY]: {
    agency: is.agency,
    key_id: is.id,
    key: is.bytesOf(32),
    not_before: is.time,
    not_after: is.time,
    seq: is.from1,
  },
  [TAGS.EPOCH_REVOCATION]: {
    agency: is.agency,
    key_id: is.id,
    compromised_since: is.time,
    revoked_at: is.time,
    seq: is.from1,
  },
});

/**
 * @param {Uint8Array} bytes
 * @param {string} tag the one purpose it is read for
 * @param {Uint8Array} publicKey Ed25519, of the kind that signs these
 * @returns {Record<string, any>} the body
 */
export function verifyStatement(bytes, tag, publicKey) {
  if (bytes.length > CAP) throw new Refusal(MALFORMED, "size");
  let statement;
  try {
    statement = readCanonical(bytes);
  } catch {
    throw new Refusal(MALFORMED);
  }
  is.exactly(statement, { body: () => true, signature: is.bytesOf(64), tag: is.oneOf([tag]) }, MALFORMED);
  const body = is.exactly(statement.body, BODIES[tag], MALFORMED, "body");
  const signature = refusing(MALFORMED, () => unbase64url(statement.signature, "signature"));
  if (!verifySignature(signature, framed(tag, canonicalBytes(body)), publicKey)) throw new Refusal("statement-signature");
  return body;
}

/**
 * The leaf of a delivery receipt in the log of its two agencies (RFC 6962, section 2.1).
 * @param {Record<string, any>} body
 */
export const leaf = (body) => hex(sha256(concat(Uint8Array.of(0), canonicalBytes(body))));
