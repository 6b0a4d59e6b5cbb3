/** Section 1: base64url in one spelling, hexadecimal, framed input. */
import { Refusal } from "./refusal.mjs";

export const TAG_PREFIX = "referral-exchange/v1/";

/** A tag has one purpose. */
export const TAGS = Object.freeze({
  ENVELOPE: `${TAG_PREFIX}envelope`,
  DEK_COMMITMENT: `${TAG_PREFIX}dek-commitment`,
  EPOCH_KEY: `${TAG_PREFIX}epoch-key`,
  EPOCH_REVOCATION: `${TAG_PREFIX}epoch-revocation`,
  CONSENT_RECEIPT: `${TAG_PREFIX}consent-receipt`,
  CONSENT_STATUS: `${TAG_PREFIX}consent-status`,
  ADHERENCE: `${TAG_PREFIX}adherence`,
  DELIVERY_RECEIPT: `${TAG_PREFIX}delivery-receipt`,
  RELEASE: `${TAG_PREFIX}release`,
  REFERRAL_WRAP: `${TAG_PREFIX}referral-wrap`,
  SEALED_ROW: `${TAG_PREFIX}sealed-row`,
  KEYED_DIGEST: `${TAG_PREFIX}keyed-digest`,
  KEY_FILE: `${TAG_PREFIX}key-file`,
});

const encoder = new TextEncoder();

/** @param {string} text */
export const utf8 = (text) => encoder.encode(text);

/** @param {Uint8Array} bytes */
export const hex = (bytes) => Buffer.from(bytes).toString("hex");

/**
 * @param {string} text lower-case hexadecimal
 * @returns {Uint8Array}
 */
export function unhex(text) {
  if (!/^([0-9a-f]{2})*$/.test(text)) throw new Refusal("malformed", "hexadecimal");
  return new Uint8Array(Buffer.from(text, "hex"));
}

/** @param {Uint8Array} bytes */
export const base64url = (bytes) => Buffer.from(bytes).toString("base64url");

/**
 * Decodes the one spelling there is: no padding, no other alphabet, no bits beyond the last byte.
 * @param {unknown} text
 * @param {string} member
 * @returns {Uint8Array}
 */
export function unbase64url(text, member) {
  if (typeof text !== "string" || !/^[A-Za-z0-9_-]*$/.test(text)) throw new Refusal("malformed", member);
  const bytes = new Uint8Array(Buffer.from(text, "base64url"));
  if (base64url(bytes) !== text) throw new Refusal("malformed", member);
  return bytes;
}

/**
 * @param {...Uint8Array} parts
 * @returns {Uint8Array}
 */
export function concat(...parts) {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/**
 * framed(tag, part, …): tag and parts, each preceded by its length as four big-endian bytes.
 * @param {string} tag
 * @param {...Uint8Array} parts
 */
export function framed(tag, ...parts) {
  return concat(
    ...[utf8(tag), ...parts].flatMap((part) => {
      const length = new Uint8Array(4);
      new DataView(length.buffer).setUint32(0, part.length);
      return [length, part];
    }),
  );
}
