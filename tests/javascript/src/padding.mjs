/** Section 6: ISO/IEC 7816-4 padding to the smallest of three sizes that is greater than the content. */
import { Refusal } from "./refusal.mjs";

const MARK = 0x80;
export const SIZES = Object.freeze([4096, 16384, 65536]);

/** @param {number} length */
const sizeFor = (length) => SIZES.find((size) => size > length);

/**
 * @param {Uint8Array} content
 * @returns {Uint8Array}
 */
export function pad(content) {
  const size = sizeFor(content.length);
  if (size === undefined) throw new Refusal("content-too-large");
  const padded = new Uint8Array(size);
  padded.set(content);
  padded[content.length] = MARK;
  return padded;
}

/**
 * @param {Uint8Array} padded
 * @returns {Uint8Array}
 */
export function unpad(padded) {
  let end = padded.length - 1;
  while (end >= 0 && padded[end] === 0) end -= 1;
  if (end < 0 || padded[end] !== MARK || sizeFor(end) !== padded.length) throw new Refusal("bad-padding");
  return padded.subarray(0, end);
}
