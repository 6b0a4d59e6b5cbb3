/**
 * Section 1: canonical JSON.
 *
 * A reader refuses bytes that are not the canonical form of what they say. So bytes are parsed, written again and
 * compared: a repeated member, white space, another order, a needless escape and a number in another spelling all
 * come out different. What would come out alike (a fraction, an exponent, `null`) the writer refuses.
 */
import { utf8 } from "./bytes.mjs";
import { Refusal } from "./refusal.mjs";

const NOT_CANONICAL = "not canonical JSON";

/**
 * The order of code points, which is not that of UTF-16 units beyond U+FFFF.
 * @param {string} a
 * @param {string} b
 */
function byCodePoint(a, b) {
  const [left, right] = [[...a], [...b]];
  for (let i = 0; i < Math.min(left.length, right.length); i += 1) {
    const difference = /** @type {number} */ (left[i].codePointAt(0)) - /** @type {number} */ (right[i].codePointAt(0));
    if (difference !== 0) return difference;
  }
  return left.length - right.length;
}

/** @param {string} text */
function writeText(text) {
  return JSON.stringify(text).replace(
    /[\u007f-\uffff]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/**
 * @param {unknown} value
 * @returns {string} the canonical form
 */
export function canonical(value) {
  if (typeof value === "string") return writeText(value);
  if (typeof value === "boolean") return String(value);
  if (typeof value === "number") {
    if (!Number.isSafeInteger(value) || value < 0 || Object.is(value, -0)) {
      throw new Refusal("malformed", "numbers are integers from 0 to 2^53 - 1");
    }
    return String(value);
  }
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (typeof value !== "object" || value === null) throw new Refusal("malformed", "null does not occur");
  const object = /** @type {Record<string, unknown>} */ (value);
  const members = Object.keys(object).sort(byCodePoint);
  return `{${members.map((name) => `${writeText(name)}:${canonical(object[name])}`).join(",")}}`;
}

/** @param {unknown} value */
export const canonicalBytes = (value) => utf8(canonical(value));

/**
 * @param {Uint8Array} bytes
 * @returns {Record<string, unknown>} the object they say, if they are its canonical form
 */
export function readCanonical(bytes) {
  if (bytes.some((byte) => byte < 0x20 || byte > 0x7e)) throw new Refusal("malformed", NOT_CANONICAL);
  const text = Buffer.from(bytes).toString("latin1");
  let value;
  let again;
  try {
    value = JSON.parse(text);
    again = canonical(value);
  } catch (error) {
    if (error instanceof Refusal) throw error;
    throw new Refusal("malformed", "not JSON");
  }
  if (again !== text) throw new Refusal("malformed", NOT_CANONICAL);
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new Refusal("malformed", "not a JSON object");
  }
  return value;
}
