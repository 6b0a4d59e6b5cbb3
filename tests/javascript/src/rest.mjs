/** Section 13: at rest, as a node of this project keeps it. */
import { argon2id } from "@noble/hashes/argon2.js";
import { blake2b } from "@noble/hashes/blake2.js";
import { framed, TAGS, unbase64url, utf8 } from "./bytes.mjs";
import { canonicalBytes, readCanonical } from "./canonical.mjs";
import { decrypt } from "./keys.mjs";
import { oneOf, bytesOf, exactly } from "./members.mjs";
import { Refusal } from "./refusal.mjs";

const VERSION = 1;
const KEY_FILE_CAP = 64 * 1024;
export const FLOOR = Object.freeze({ opslimit: 2, memlimit: 64 * 1024 * 1024 });
const CEILING = Object.freeze({ opslimit: 16, memlimit: 1024 * 1024 * 1024 });

/**
 * @param {Uint8Array} key
 * @param {Uint8Array} sealed 0x01 ‖ nonce ‖ XChaCha20-Poly1305
 * @param {Uint8Array} associated
 */
function unsealLocal(key, sealed, associated) {
  if (sealed[0] !== VERSION) throw new Refusal("sealed-row");
  return decrypt(key, sealed.subarray(1), associated, "sealed-row");
}

/**
 * @param {Uint8Array} referralKey
 * @param {Uint8Array} wrapped
 * @param {string} referral
 * @param {string} envelope
 * @returns {Uint8Array} the data key of that envelope
 */
export const unwrapDataKey = (referralKey, wrapped, referral, envelope) =>
  unsealLocal(referralKey, wrapped, framed(TAGS.REFERRAL_WRAP, utf8(referral), utf8(envelope)));

/**
 * @param {Uint8Array} rowKey
 * @param {Uint8Array} sealed
 * @param {{table: string, column: string, row: string}} place
 */
export const openRow = (rowKey, sealed, { table, column, row }) =>
  unsealLocal(rowKey, sealed, framed(TAGS.SEALED_ROW, utf8(table), utf8(column), utf8(row)));

/**
 * @param {Uint8Array} storageKey
 * @param {"rx1/sealed-rows" | "rx1/keyed-digest" | "rx1/token-seed"} person filled with zeros to sixteen bytes
 */
export function derive(storageKey, person) {
  const personalization = new Uint8Array(16);
  personalization.set(utf8(person));
  return blake2b(new Uint8Array(0), { dkLen: 32, key: storageKey, personalization });
}

/**
 * @param {Uint8Array} storageKey
 * @param {string} use
 * @param {Uint8Array} value
 */
export const keyedDigest = (storageKey, use, value) =>
  blake2b(framed(TAGS.KEYED_DIGEST, utf8(use), value), { dkLen: 32, key: derive(storageKey, "rx1/keyed-digest") });

const positive = (/** @type {unknown} */ value) => Number.isSafeInteger(value) && /** @type {number} */ (value) > 0;

/**
 * @param {Uint8Array} file
 * @param {string} passphrase
 * @param {{opslimit: number, memlimit: number}} [floor]
 * @returns {Record<string, any>} what is inside
 */
export function openKeyFile(file, passphrase, floor = FLOOR) {
  const malformed = "key-file-malformed";
  if (file.length > KEY_FILE_CAP || file.at(-1) !== 0x0a) throw new Refusal(malformed);
  const members = {
    format: oneOf(["referral-exchange-keys/v1"]),
    kdf: oneOf(["argon2id"]),
    opslimit: positive,
    memlimit: positive,
    salt: bytesOf(16),
    sealed: (/** @type {unknown} */ value) => typeof value === "string",
  };
  let parsed;
  try {
    parsed = exactly(readCanonical(file.subarray(0, -1)), members, malformed);
    parsed = { ...parsed, sealedBytes: unbase64url(parsed.sealed, "sealed") };
  } catch {
    throw new Refusal(malformed);
  }
  const { sealed, sealedBytes, ...rest } = parsed;
  for (const cost of /** @type {const} */ (["opslimit", "memlimit"])) {
    if (rest[cost] < floor[cost] || rest[cost] > CEILING[cost]) throw new Refusal("key-file-weak");
  }
  const key = argon2id(utf8(passphrase), unbase64url(rest.salt, "salt"), {
    t: rest.opslimit,
    m: Math.floor(rest.memlimit / 1024),
    p: 1,
    dkLen: 32,
  });
  const inside = decrypt(key, sealedBytes, framed(TAGS.KEY_FILE, canonicalBytes(rest)), "passphrase-wrong");
  return readCanonical(inside);
}
