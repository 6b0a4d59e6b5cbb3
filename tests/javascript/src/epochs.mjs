/** Section 5: which of an agency's week keys to seal to. */
import { unbase64url } from "./bytes.mjs";
import { keyId, sealTo } from "./keys.mjs";
import { Refusal } from "./refusal.mjs";

const WEEK = 7 * 24 * 3600 * 1000;
/** Monday 5 January 1970, 00:00 UTC. */
const A_MONDAY = 4 * 24 * 3600 * 1000;

/** Whether it is of a week, has its own id, and can be sealed to. @param {Record<string, any>} statement */
function check({ not_before: from, not_after: to, key: written, key_id: id }) {
  if (to - from !== WEEK || (from - A_MONDAY) % WEEK !== 0) throw new Refusal("epoch-not-a-week");
  const key = unbase64url(written, "key");
  if (keyId(key) !== id) throw new Refusal("key-unusable");
  sealTo(new Uint8Array(32), key);
}

/**
 * A list is refused as a whole, also for a key of another week.
 * @param {Record<string, any>[]} statements bodies that were verified
 * @param {Record<string, any>[]} revocations bodies that were verified
 * @param {number} knownSeq the highest ever seen from this agency; 0 for none
 * @param {number} at the time of sealing
 * @returns {Record<string, any>} the body of the key to use
 */
export function chooseEpochKey(statements, revocations, knownSeq, at) {
  for (const statement of statements) check(statement);
  const numbers = [...statements, ...revocations].map(({ seq }) => seq);
  const highest = Math.max(0, ...numbers);
  if (highest < knownSeq) throw new Refusal("epoch-went-back");
  if (new Set(numbers).size < numbers.length) throw new Refusal("epoch-repeated");
  const revoked = new Set(revocations.map(({ key_id }) => key_id));
  const [chosen] = statements
    .filter(({ not_before, not_after, key_id }) => not_before <= at && at < not_after && !revoked.has(key_id))
    .sort((a, b) => b.seq - a.seq);
  if (chosen === undefined) throw new Refusal("no-epoch-key");
  return chosen;
}
