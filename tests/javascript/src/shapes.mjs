/** Section 8: the kinds and their shapes. What is not listed for a kind is forbidden there. */

/**
 * @typedef {object} Shape
 * @property {"forward" | "answer" | "stop"} group
 * @property {readonly string[]} required
 * @property {readonly string[]} optional
 * @property {readonly string[]} [stages]
 * @property {readonly string[] | "problem-code"} [events]
 */

const ALWAYS =
  "suite id kind referral from to signed_by signing_key vocabulary roster_version roster_digest seen created expires";
const FORWARD = `${ALWAYS} epoch_key dek_commitment contract purpose stage groups receipt`;
const ANSWER = `${ALWAYS} epoch_key dek_commitment contract purpose number in_reply_to`;
const STOP = `${ALWAYS} number`;

/** @param {string} words */
const split = (words) => Object.freeze(words.split(" ").filter(Boolean));

/** @param {string} stages @param {string} also @param {string} [optional] @returns {Shape} */
const forward = (stages, also, optional = "") => ({
  group: "forward",
  required: split(`${FORWARD} ${also}`),
  optional: split(optional),
  stages: split(stages),
});

/** @param {string} [events] @returns {Shape} */
const answer = (events) => ({
  group: "answer",
  required: split(events ? `${ANSWER} event` : ANSWER),
  optional: [],
  events: events ? split(events) : undefined,
});

/** @param {string} also @param {string} optional @param {readonly string[] | "problem-code"} [events] @returns {Shape} */
const stop = (also, optional, events) => ({
  group: "stop",
  required: split(`${STOP} ${also}`),
  optional: split(optional),
  events,
});

/** @type {Readonly<Record<string, Shape>>} */
export const SHAPES = Object.freeze({
  // A null prototype: "constructor" is not a kind.
  __proto__: null,
  offer: forward("offer", "number priority respond_by"),
  disclosure: forward("disclosure", ""),
  information: forward("offer disclosure", "number in_reply_to"),
  update: forward("offer disclosure", "number", "in_reply_to"),
  appointment: forward("offer disclosure", "number", "in_reply_to"),
  "onward-request": forward("offer disclosure", "number", "in_reply_to"),
  probe: forward("offer", "number"),
  hold: forward("offer", "number", "in_reply_to"),
  decision: answer("accepted waitlisted declined redirected"),
  progress: answer("scheduled not-reached not-arrived in-service completed failed"),
  "information-request": answer("information-requested"),
  "recall-answer": answer("recalled in-service completed failed"),
  "onward-answer": answer(),
  "probe-answer": answer(),
  recall: stop("", ""),
  withdrawal: stop("event", "", split("stop-sharing stop-service erase")),
  "erasure-receipt": stop("event", "in_reply_to", split("erased-by-node erased-by-agency")),
  refusal: stop("event in_reply_to", "", "problem-code"),
  "entered-in-error": stop("", "in_reply_to"),
});

/** They would tell a peer whether a person is known. */
export const NEVER_TOLD = Object.freeze(["duplicate", "already-received", "conflict-of-interest"]);
