/** Sections 7 and 8: step 2 for the header, with an unknown suite or vocabulary (step 5) found on the way. */
import { readCanonical } from "./canonical.mjs";
import * as is from "./members.mjs";
import { Refusal } from "./refusal.mjs";
import { NEVER_TOLD, SHAPES } from "./shapes.mjs";
import * as vocabulary from "./vocabulary.mjs";

const HEADER_CAP = 4096;
const HOUR = 3600 * 1000;
const DAY = 24 * HOUR;

const RECEIPT = {
  receipt_id: is.id,
  issuer: is.agency,
  recipient: is.agency,
  purpose: is.oneOf(vocabulary.PURPOSES),
  groups: is.someOf(vocabulary.GROUPS),
  basis: is.oneOf(vocabulary.BASES),
  issued: is.time,
  expires: is.time,
  signature: is.bytesOf(64),
};

/** @param {unknown} value */
function isReceipt(value) {
  const receipt = is.exactly(value, RECEIPT, "malformed", "receipt");
  if (receipt.issued >= receipt.expires) throw new Refusal("malformed", "receipt.expires");
  return true;
}

/** @type {Record<string, is.Check>} */
const MEMBERS = {
  suite: is.oneOf(["rx1"]),
  id: is.id,
  kind: (value) => typeof value === "string" && value in SHAPES,
  referral: is.id,
  from: is.agency,
  to: is.agency,
  signed_by: is.oneOf(["agency", "node"]),
  signing_key: is.id,
  epoch_key: is.id,
  contract: is.digest,
  vocabulary: is.from1,
  roster_version: is.from1,
  roster_digest: is.digest,
  purpose: is.oneOf(vocabulary.PURPOSES),
  stage: is.oneOf(vocabulary.STAGES),
  groups: is.someOf(vocabulary.GROUPS),
  event: (value) => typeof value === "string",
  number: is.from1,
  seen: is.from0,
  priority: is.oneOf(vocabulary.PRIORITIES),
  respond_by: is.time,
  receipt: isReceipt,
  dek_commitment: is.digest,
  created: is.time,
  expires: is.time,
  in_reply_to: is.id,
};

/**
 * @param {Record<string, any>} header
 * @param {import("./shapes.mjs").Shape} shape
 */
function checkMembers(header, shape) {
  for (const name of Object.keys(header)) {
    if (!shape.required.includes(name) && !shape.optional.includes(name)) {
      throw new Refusal("malformed", "a member that this kind does not have");
    }
  }
  for (const name of shape.required) {
    if (!Object.hasOwn(header, name)) throw new Refusal("malformed", name);
  }
  for (const [name, value] of Object.entries(header)) {
    if (!MEMBERS[name](value)) throw new Refusal("malformed", name);
  }
}

/**
 * @param {Record<string, any>} header
 * @param {import("./shapes.mjs").Shape} shape
 */
function checkTerms(header, shape) {
  if (shape.stages && !shape.stages.includes(header.stage)) throw new Refusal("malformed", "stage");
  if (shape.events === "problem-code") {
    if (!is.problemCode(header.event) || NEVER_TOLD.includes(header.event)) throw new Refusal("malformed", "event");
  } else if (shape.events && !shape.events.includes(header.event)) {
    throw new Refusal("malformed", "event");
  }
  if (header.from === header.to) throw new Refusal("malformed", "to");
  const signers = header.event === "erased-by-node" ? ["node"] : ["agency", ...(shape.group === "stop" ? ["node"] : [])];
  if (!signers.includes(header.signed_by) || (header.event === "erased-by-agency" && header.signed_by !== "agency")) {
    throw new Refusal("malformed", "signed_by");
  }
}

/**
 * @param {Record<string, any>} header
 * @param {import("./shapes.mjs").Shape} shape
 */
function checkTimes(header, shape) {
  const life = header.expires - header.created;
  if (shape.group === "stop") {
    if (life !== 400 * DAY) throw new Refusal("malformed", "expires");
    return;
  }
  if (life <= 0 || life > 14 * DAY) throw new Refusal("malformed", "expires");
  if (header.kind !== "offer") return;
  if (header.respond_by <= header.created) throw new Refusal("malformed", "respond_by");
  if (header.expires !== header.respond_by + 24 * HOUR) throw new Refusal("malformed", "expires");
}

/**
 * @param {Uint8Array} bytes exactly as they were signed
 * @returns {Record<string, any>} a header that keeps every rule of sections 7 and 8
 */
export function parseHeader(bytes) {
  if (bytes.length > HEADER_CAP) throw new Refusal("too-large");
  const header = /** @type {Record<string, any>} */ (readCanonical(bytes));
  if (typeof header.suite !== "string") throw new Refusal("malformed", "suite");
  if (header.suite !== "rx1") throw new Refusal("unknown-suite");
  if (!is.from1(header.vocabulary)) throw new Refusal("malformed", "vocabulary");
  if (header.vocabulary !== vocabulary.VERSION) throw new Refusal("unknown-vocabulary");
  if (!MEMBERS.kind(header.kind)) throw new Refusal("malformed", "kind");
  const shape = SHAPES[header.kind];
  checkMembers(header, shape);
  checkTerms(header, shape);
  checkTimes(header, shape);
  return header;
}
