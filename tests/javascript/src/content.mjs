/**
 * Section 8: what is inside, and that it says what the header says (step 16).
 *
 * The form is judged here, not every term: which words and lengths a field may have is in `ReferralContent` of
 * openapi/openapi.json, and a receiver of real referrals has to hold its content against that too.
 */
import { agrees } from "./agreement.mjs";
import { readCanonical } from "./canonical.mjs";
import { Refusal } from "./refusal.mjs";
import { SHAPES } from "./shapes.mjs";
import { MINORS, words } from "./vocabulary.mjs";

const INVALID = "content-invalid";

const BASES = words(`consent supported-decision own-consent-minor caregiver caregiver-and-assent
  trusted-adult-best-interest caseworker-best-interest imminent-threat-to-self imminent-threat-to-others
  child-abuse-mandatory court-order statute`);
const ADULTS = words("18-24 25-49 50-64 65-plus");
/** For whom a basis is one; what is missing here is an exception. @type {Readonly<Record<string, readonly string[]>>} */
const AGES = Object.freeze({
  consent: ADULTS,
  "supported-decision": ADULTS,
  "own-consent-minor": words("15-17"),
  caregiver: words("0-5"),
  "caregiver-and-assent": words("6-11 12-14"),
  "trusted-adult-best-interest": MINORS,
  "caseworker-best-interest": MINORS,
});
const LEVELS = words("decision status outcome");
const REASONS = words(`no-capacity waitlist-only not-eligible out-of-area language-unavailable service-suspended
  missing-consent policy-violation already-placed other`);
const OUTCOMES = words("service-provided partly-provided ended-by-survivor moved-on not-arrived other");
const FAILURES = words("not-reached not-arrived eligibility-changed service-closed other");

/** The fields of each group. @type {Readonly<Record<string, readonly string[]>>} */
const FIELDS = Object.freeze({
  routing: words(`client_code priority service_type referred_at respond_by vocabulary_version exercise
    referring_agency duty_contact`),
  need: words(`needs services_provided expected_stay arrival_window transport_needed age_band is_minor unaccompanied
    gender accessibility party language interpreter conflict_check area country_of_work return_voluntary
    safe_return_assessed`),
  health: words("care_window immediate_medical medication_or_mental_health_support health_facts"),
  safety: words("safety_flags relationship"),
  name: words("preferred_name arrival_words"),
  identity: words("legal_name date_of_birth nationality passport_number permit_number"),
  contact: words("safe_contact"),
  place: words("current_location meeting_point"),
  caregiver: words("caregiver"),
  employment: words("employer_name wage_details"),
  police: words("police_statement"),
  status: words("immigration_status avoid_own_authorities"),
  perpetrator: words("perpetrator_identity narrative"),
});
const NEVER = words("avoid_own_authorities narrative");
const GROUP_OF = new Map(Object.entries(FIELDS).flatMap(([group, names]) => names.map((name) => [name, group])));
const ASKABLE = [...GROUP_OF.keys()].filter((name) => !FIELDS.routing.includes(name) && !NEVER.includes(name));

/** Lists of codes: in order, nothing twice. */
const CODES = words("needs services_provided accessibility conflict_check safety_flags");
const TIMES = words("referred_at respond_by earliest latest device_checked_at last_confirmed_at valid_until");
/** What has to stand in a value of several members, what it would be without it included. @type {Record<string, readonly string[]>} */
const PARTS = {
  party: words("adults dependants infant_or_pregnant"),
  dependants: words("age_band sex"),
  interpreter: words("gender needed"),
  arrival_window: words("earliest latest"),
  arrival: words("earliest latest"),
  caregiver: words("informed relationship"),
  wage_details: words("currency"),
  safe_contact: words(`agency_name_may_be_said caller_id channels delete_after dropped_call safe_times text_ok
    unsafe_times voicemail who_initiates who_may_answer`),
  channels: words("channel disappearing location_shared monitored network safe shared_device"),
  safe_times: words("from time_zone to weekday"),
  unsafe_times: words("from time_zone to weekday"),
  trusted_contact: words("address channel name"),
};
/** UTC, with six digits behind the point or, where these are zeros, none. */
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.(?!000000)\d{6})?Z$/;
const DAY = /^\d{4}-\d\d-\d\d$/;
/** Control characters and marks of direction. */
const HIDDEN = /[\p{Cc}\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/u;
/** Texts of several lines. */
const LINES = words("health_facts police_statement");

/** @param {boolean} holds */
function demand(holds) {
  if (!holds) throw new Refusal(INVALID);
}

/** @param {Uint8Array} bytes @returns {Record<string, any>} */
function read(bytes) {
  try {
    return readCanonical(bytes);
  } catch (error) {
    if (error instanceof Refusal) throw new Refusal(INVALID);
    throw error;
  }
}

/** @param {Record<string, any>} object @param {readonly string[]} required @param {readonly string[]} [optional] */
function only(object, required, optional = []) {
  demand(required.every((name) => Object.hasOwn(object, name)));
  demand(Object.keys(object).every((name) => required.includes(name) || optional.includes(name)));
}

/** @param {unknown} list */
const inOrder = (list) => Array.isArray(list) && list.every((code, i) => i === 0 || list[i - 1] < code);

/** Whether there is such a second. @param {string} time */
function isOnCalendar(time) {
  const second = time.slice(0, 19);
  const at = new Date(`${second}Z`);
  // `Date` makes 2 March of 30 February, and knows a year 0.
  return !second.startsWith("0000") && !Number.isNaN(at.getTime()) && at.toISOString().startsWith(second);
}

/** @param {string} name @param {string} text */
function isText(name, text) {
  const seen = LINES.includes(name) ? text.replaceAll("\n", "") : text;
  const oneForm = text.isWellFormed() && text.normalize("NFC") === text && text.trim() === text;
  return text !== "" && oneForm && !HIDDEN.test(seen);
}

/**
 * The one spelling of a member and of everything in it.
 * @param {string} name
 * @param {any} value one, or a list of them
 */
function checkSpelling(name, value) {
  if (CODES.includes(name)) demand(inOrder(value));
  for (const one of Array.isArray(value) ? value : [value]) {
    if (TIMES.includes(name)) demand(typeof one === "string" && TIME.test(one) && isOnCalendar(one));
    if (name === "date_of_birth") demand(typeof one === "string" && DAY.test(one) && isOnCalendar(`${one}T00:00:00`));
    if (typeof one === "string") demand(isText(name, one));
    if (typeof one !== "object") demand(!Object.hasOwn(PARTS, name));
    else {
      demand(Object.hasOwn(PARTS, name) && PARTS[name].every((member) => Object.hasOwn(one, member)));
      for (const [member, inner] of Object.entries(one)) checkSpelling(member, inner);
    }
  }
}

/** @param {Record<string, any>} header @param {Record<string, any>} content */
function contradicts(header, content) {
  const { referring_agency: sender, service_type: service, vocabulary_version: vocabulary } = content;
  const { priority, respond_by: due } = content;
  const offer = header.kind === "offer";
  return (
    (sender !== undefined && sender !== header.from) ||
    (vocabulary !== undefined && vocabulary !== header.vocabulary) ||
    (service !== undefined && `provide-${service}` !== header.purpose) ||
    (offer && priority !== undefined && priority !== header.priority) ||
    (offer && due !== undefined && Date.parse(due) !== header.respond_by)
  );
}

/** @param {string} basis @param {Record<string, any>} content */
function isForHerAge(basis, { age_band: band, is_minor: minor, caregiver }) {
  const ages = AGES[basis];
  if (ages === undefined) return true;
  if (band !== undefined) return ages.includes(band);
  if (ages === ADULTS) return minor !== true && caregiver === undefined;
  return minor !== false;
}

/** @param {Record<string, any>} header @param {Uint8Array} bytes */
function readForward(header, bytes) {
  const body = read(bytes);
  only(body, ["basis", "content", "feedback"]);
  demand(BASES.includes(body.basis) && LEVELS.includes(body.feedback));
  const { content } = body;
  demand(typeof content === "object" && !Array.isArray(content));
  for (const [name, value] of Object.entries(content)) {
    demand(GROUP_OF.has(name));
    checkSpelling(name, value);
  }
  demand(agrees(content) && !contradicts(header, content) && isForHerAge(body.basis, content));
  const inside = new Set(Object.keys(content).map((name) => GROUP_OF.get(name)));
  const named = header.groups;
  if (named.length !== inside.size || !named.every((/** @type {string} */ group) => inside.has(group))) {
    throw new Refusal("groups-differ");
  }
  return body;
}

/** @type {Record<string, (event: string, said: Record<string, any>) => void>} */
const ANSWERS = {
  decision(event, said) {
    const also = { declined: ["reason"], redirected: ["suggested_service"] }[event] ?? [];
    only(said, ["decision", ...also], event === "accepted" ? ["arrival"] : []);
    demand(said.decision === event);
    if (event === "declined") demand(REASONS.includes(said.reason));
  },
  progress(event, said) {
    only(said, ["state"], { completed: ["outcome"], failed: ["fail_reason"] }[event] ?? []);
    demand(said.state === event);
    demand(said.outcome === undefined || OUTCOMES.includes(said.outcome));
    demand(said.fail_reason === undefined || FAILURES.includes(said.fail_reason));
  },
  "information-request"(_event, said) {
    only(said, ["fields"]);
    demand(inOrder(said.fields) && said.fields.length > 0 && said.fields.length <= 20);
    demand(said.fields.every((/** @type {string} */ name) => ASKABLE.includes(name)));
  },
  "recall-answer"(event, said) {
    only(said, ["agreed"]);
    demand(said.agreed === (event === "recalled"));
  },
};

/**
 * Step 16.
 * @param {Record<string, any>} header
 * @param {Uint8Array} bytes what was opened
 * @returns {Record<string, any>} what it says
 */
export function readContent(header, bytes) {
  if (SHAPES[header.kind].group === "forward") return readForward(header, bytes);
  const said = read(bytes);
  demand(Object.hasOwn(ANSWERS, header.kind));
  for (const [name, value] of Object.entries(said)) checkSpelling(name, value);
  demand(agrees(said));
  ANSWERS[header.kind](header.event, said);
  return said;
}
