/**
 * Section 6: an envelope is parsed, then verified, then opened. Each of the three takes what the one before returned.
 *
 * What this cannot know is for its caller, as numbered in section 10: that `to` is you (3), whether it was seen before
 * (4), the time (6), that the keys are those of the roster (7), the referral (9), the contract (10, 12, 17), and what
 * the content says (16).
 */
import { sha256 } from "@noble/hashes/sha2.js";
import { framed, hex, TAGS, unbase64url } from "./bytes.mjs";
import { parseHeader } from "./header.mjs";
import { commitment, decrypt, keyId, openSealed, verifySignature } from "./keys.mjs";
import { SIZES, unpad } from "./padding.mjs";
import { Refusal } from "./refusal.mjs";
import { SHAPES } from "./shapes.mjs";

const CAPS = Object.freeze({ header: 4096, wrapped_key: 80, ciphertext: 65576, signature: 64, release: 4096 });
const NONCE_AND_TAG = 24 + 16;
const CIPHERTEXTS = Object.freeze(SIZES.map((size) => size + NONCE_AND_TAG));

/**
 * @typedef {object} Envelope
 * @property {Record<string, any>} header
 * @property {Uint8Array} headerBytes
 * @property {Uint8Array} wrappedKey
 * @property {Uint8Array} ciphertext
 * @property {Uint8Array} signature
 * @property {Uint8Array} [release]
 * @property {Uint8Array} signedInput
 * @property {string} digest
 */

/**
 * Steps 1, 2 and 5.
 * @param {unknown} item the JSON object
 * @returns {Envelope} whose signature is not verified yet
 */
export function parseEnvelope(item) {
  if (typeof item !== "object" || item === null || Array.isArray(item)) throw new Refusal("malformed", "envelope");
  const given = /** @type {Record<string, unknown>} */ (item);
  for (const [name, value] of Object.entries(given)) {
    const cap = Object.hasOwn(CAPS, name) ? CAPS[/** @type {keyof CAPS} */ (name)] : undefined;
    if (cap === undefined) throw new Refusal("malformed", "a member that an envelope does not have");
    if (typeof value !== "string") throw new Refusal("malformed", name);
    if (value.length > Math.ceil((cap * 4) / 3)) throw new Refusal("too-large", name);
  }
  for (const name of ["header", "wrapped_key", "ciphertext", "signature"]) {
    if (!Object.hasOwn(given, name)) throw new Refusal("malformed", name);
  }
  const headerBytes = unbase64url(given.header, "header");
  const wrappedKey = unbase64url(given.wrapped_key, "wrapped_key");
  const ciphertext = unbase64url(given.ciphertext, "ciphertext");
  const signature = unbase64url(given.signature, "signature");
  const header = parseHeader(headerBytes);
  const isStop = SHAPES[header.kind].group === "stop";
  if (wrappedKey.length !== 80) throw new Refusal("malformed", "wrapped_key");
  if (signature.length !== 64) throw new Refusal("malformed", "signature");
  if (!(isStop ? CIPHERTEXTS.slice(0, 1) : CIPHERTEXTS).includes(ciphertext.length)) {
    throw new Refusal("malformed", "ciphertext");
  }
  const release = given.release === undefined ? undefined : unbase64url(given.release, "release");
  if ((header.kind === "disclosure") !== (release !== undefined) || release?.length === 0) {
    throw new Refusal("malformed", "release");
  }
  const signedInput = framed(TAGS.ENVELOPE, headerBytes, sha256(wrappedKey), sha256(ciphertext));
  const digest = hex(sha256(signedInput));
  return { header, headerBytes, wrappedKey, ciphertext, signature, release, signedInput, digest };
}

/**
 * Step 8, with the two keys that the roster names for the sender.
 * @param {Envelope} envelope
 * @param {{agency: Uint8Array, node: Uint8Array}} sender Ed25519 public keys
 * @returns {Envelope} the same; it was signed by the sender
 */
export function verifyEnvelope(envelope, sender) {
  const { header, signature, signedInput } = envelope;
  const key = header.signed_by === "agency" ? sender.agency : sender.node;
  if (keyId(key) !== header.signing_key || !verifySignature(signature, signedInput, key)) {
    throw new Refusal("bad-signature");
  }
  return envelope;
}

/**
 * Steps 13 to 15.
 * @param {Envelope} envelope that was verified
 * @param {Uint8Array} epochPrivate X25519
 * @returns {Uint8Array | undefined} the content; a stop has none
 */
export function openEnvelope(envelope, epochPrivate) {
  const { header, headerBytes, wrappedKey, ciphertext } = envelope;
  if (SHAPES[header.kind].group === "stop") return undefined;
  const dataKey = openSealed(wrappedKey, epochPrivate);
  if (commitment(dataKey) !== header.dek_commitment) throw new Refusal("commitment-mismatch");
  return unpad(decrypt(dataKey, ciphertext, headerBytes, "cannot-decrypt"));
}
