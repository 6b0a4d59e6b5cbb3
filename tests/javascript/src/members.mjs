/** What a member of a header or of a statement may be: sections 1, 4, 7 and 9. */
import { unbase64url } from "./bytes.mjs";
import { Refusal } from "./refusal.mjs";

/** @typedef {(value: unknown) => boolean} Check */

/** @param {RegExp} pattern @returns {Check} */
const text = (pattern) => (value) => typeof value === "string" && pattern.test(value);

/** @param {readonly string[]} terms @returns {Check} */
export const oneOf = (terms) => (value) => typeof value === "string" && terms.includes(value);

/** @param {number} least @returns {Check} */
const integer = (least) => (value) => Number.isSafeInteger(value) && /** @type {number} */ (value) >= least;

/** @param {number} length @returns {Check} */
export const bytesOf = (length) => (value) => {
  try {
    return unbase64url(value, "").length === length;
  } catch {
    return false;
  }
};

export const id = text(/^[0-9a-f]{32}$/);
export const digest = text(/^[0-9a-f]{64}$/);
export const agency = text(/^[a-z0-9][a-z0-9-]{1,62}$/);
export const problemCode = text(/^[a-z][a-z0-9-]{1,62}$/);
export const time = integer(1);
export const from0 = integer(0);
export const from1 = integer(1);

/**
 * @param {readonly string[]} terms
 * @returns {Check} sorted, without repetition, at least one
 */
export const someOf = (terms) => (value) =>
  Array.isArray(value) &&
  value.length > 0 &&
  value.every((term, i) => oneOf(terms)(term) && (i === 0 || value[i - 1] < term));

/**
 * @param {unknown} value
 * @param {Record<string, Check>} members all of them, and no other
 * @param {string} code
 * @param {string} [within]
 * @returns {Record<string, any>}
 */
export function exactly(value, members, code, within = "") {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw new Refusal(code, within);
  const object = /** @type {Record<string, unknown>} */ (value);
  if (Object.keys(object).length !== Object.keys(members).length) throw new Refusal(code, within);
  for (const [name, check] of Object.entries(members)) {
    if (!Object.hasOwn(object, name) || !check(object[name])) throw new Refusal(code, within ? `${within}.${name}` : name);
  }
  return object;
}
