/** Sections 2 and 3: the suite `rx1` and what is a usable key. */
import { xchacha20poly1305 } from "@noble/ciphers/chacha.js";
import { hsalsa, xsalsa20poly1305 } from "@noble/ciphers/salsa.js";
import { ed25519, x25519 } from "@noble/curves/ed25519.js";
import { blake2b } from "@noble/hashes/blake2.js";
import { sha256, sha512 } from "@noble/hashes/sha2.js";
import { concat, framed, hex, TAGS, utf8 } from "./bytes.mjs";
import { Refusal, refusing } from "./refusal.mjs";

const { Point } = ed25519;
const NONCE = 24;

/**
 * @param {Uint8Array} publicKey
 * @returns {string}
 */
export const keyId = (publicKey) => hex(sha256(publicKey)).slice(0, 32);

/** @param {bigint} number */
const toLittleEndian = (number) =>
  Uint8Array.from({ length: 32 }, (_, i) => Number((number >> BigInt(8 * i)) & 255n));

/** @param {Uint8Array} bytes */
const fromLittleEndian = (bytes) => bytes.reduceRight((sum, byte) => (sum << 8n) | BigInt(byte), 0n);

/**
 * Ed25519 as section 2 wants it: S reduced, key and R canonical and not of low order, and [S]B = R + [k]A without a
 * cofactor. noble's own `verify` multiplies by the cofactor and so accepts signatures that libsodium refuses.
 * @param {Uint8Array} signature
 * @param {Uint8Array} message
 * @param {Uint8Array} publicKey
 * @returns {boolean}
 */
export function verifySignature(signature, message, publicKey) {
  if (signature.length !== 64 || publicKey.length !== 32) return false;
  try {
    const r = signature.subarray(0, 32);
    const s = fromLittleEndian(signature.subarray(32));
    const key = Point.fromBytes(publicKey, false);
    if (s >= Point.Fn.ORDER || key.isSmallOrder() || Point.fromBytes(r, false).isSmallOrder()) return false;
    const k = fromLittleEndian(sha512(concat(r, publicKey, message))) % Point.Fn.ORDER;
    const sB = s === 0n ? Point.ZERO : Point.BASE.multiplyUnsafe(s);
    const expected = sB.subtract(k === 0n ? Point.ZERO : key.multiplyUnsafe(k));
    return hex(expected.toBytes()) === hex(r);
  } catch {
    return false;
  }
}

/**
 * @param {Uint8Array} privateKey X25519
 * @param {Uint8Array} publicKey X25519
 * @returns {Uint8Array} the key of crypto_box; throws where the shared secret is all zero
 */
function boxKey(privateKey, publicKey) {
  const shared = new Uint32Array(x25519.getSharedSecret(privateKey, publicKey).slice().buffer);
  const sigma = new Uint32Array(utf8("expand 32-byte k").slice().buffer);
  const key = new Uint32Array(8);
  hsalsa(sigma, shared, new Uint32Array(4), key);
  return new Uint8Array(key.buffer);
}

/**
 * @param {Uint8Array} ephemeral
 * @param {Uint8Array} publicKey
 */
const sealNonce = (ephemeral, publicKey) => blake2b(concat(ephemeral, publicKey), { dkLen: NONCE });

/**
 * `crypto_box_seal`: the test sealing that a key must pass before it is used.
 * @param {Uint8Array} plain
 * @param {Uint8Array} publicKey
 * @returns {Uint8Array}
 */
export function sealTo(plain, publicKey) {
  if (publicKey.length !== 32) throw new Refusal("key-unusable");
  return refusing("key-unusable", () => {
    const secret = x25519.utils.randomSecretKey();
    const ephemeral = x25519.getPublicKey(secret);
    const box = xsalsa20poly1305(boxKey(secret, publicKey), sealNonce(ephemeral, publicKey));
    return concat(ephemeral, box.encrypt(plain));
  });
}

/**
 * `crypto_box_seal_open`: step 13.
 * @param {Uint8Array} sealed
 * @param {Uint8Array} privateKey
 * @returns {Uint8Array}
 */
export function openSealed(sealed, privateKey) {
  return refusing("cannot-unwrap", () => {
    const ephemeral = sealed.subarray(0, 32);
    const nonce = sealNonce(ephemeral, x25519.getPublicKey(privateKey));
    return xsalsa20poly1305(boxKey(privateKey, ephemeral), nonce).decrypt(sealed.subarray(32));
  });
}

/**
 * @param {Uint8Array} key
 * @param {Uint8Array} sealed nonce ‖ XChaCha20-Poly1305
 * @param {Uint8Array} associated
 * @param {string} code the refusal of this step
 */
export function decrypt(key, sealed, associated, code) {
  return refusing(code, () => xchacha20poly1305(key, sealed.subarray(0, NONCE), associated).decrypt(sealed.subarray(NONCE)));
}

/**
 * @param {Uint8Array} dataKey
 * @returns {string}
 */
export const commitment = (dataKey) => hex(sha256(framed(TAGS.DEK_COMMITMENT, dataKey)));
