/**
 * Section 8: what the members of a content have to agree on, beyond their spelling.
 *
 * Of countries and areas the lists of ISO are not here, and neither is what the schema says of terms and lengths.
 */
import { MINORS, NEEDS } from "./vocabulary.mjs";

const LANGUAGE = /^[a-z]{2,3}(-[A-Z][a-z]{3})?(-([A-Z]{2}|\d{3}))?$/;
const TWO_WORDS = /^[\p{L}\p{M}]{2,16} [\p{L}\p{M}]{2,16}$/u;
/** As the database writes its names: `localtime` and `posixrules` are none, and no offset is. */
const ZONE = /^[A-Z][\w+-]*(\/[A-Z][\w+-]*)*$/;

/** Times with and without a fraction, by one length. @param {string} time */
const digits = (time) => (time.length === 20 ? time.replace("Z", ".000000Z") : time);
/** @param {string} earlier @param {string} later */
const isBefore = (earlier, later) => digits(earlier) < digits(later);
/** Letters without their case. @param {unknown} word */
const folded = (word) => String(word).toUpperCase().toLowerCase();

/** Whether it is a name of the time zone database, in its own letters. @param {unknown} name */
function isZone(name) {
  if (typeof name !== "string" || !ZONE.test(name)) return false;
  let known;
  try {
    known = new Intl.DateTimeFormat("en", { timeZone: name }).resolvedOptions().timeZone;
  } catch {
    return false;
  }
  return known === name || known.toLowerCase() !== name.toLowerCase();
}

/** @param {Record<string, any>} window */
const isWindow = ({ from, to, time_zone: zone }) => from !== to && isZone(zone);

/** @param {Record<string, any>} plan */
function isPlan({ who_initiates: who, channels, safe_times: safe, unsafe_times: unsafe, ...rest }) {
  if (![channels, safe, unsafe].every(Array.isArray) || ![...safe, ...unsafe].every(isWindow)) return false;
  const ways = new Set(channels.map((/** @type {any} */ { channel, address }) => JSON.stringify([channel, address])));
  if (ways.size < channels.length) return false;
  if (who === "agency" && (channels.length === 0 || rest.last_confirmed_at === undefined)) return false;
  const { code_word_safe: safeWord, code_word_danger: dangerWord } = rest;
  if (safeWord !== undefined && dangerWord !== undefined && folded(safeWord) === folded(dangerWord)) return false;
  const byHer = channels.some((/** @type {any} */ { channel }) => channel === "via-trusted-person");
  return !byHer || rest.trusted_contact !== undefined;
}

/** @param {Record<string, any>} window */
const isForward = ({ earliest, latest }) => typeof earliest === "string" && isBefore(earliest, latest);

/** The rules within one value. @type {Record<string, (value: any) => boolean>} */
const WITHIN = {
  language: (tag) => typeof tag === "string" && LANGUAGE.test(tag),
  arrival_words: (text) => typeof text === "string" && TWO_WORDS.test(text),
  party: ({ adults, dependants }) => adults > 0 || dependants?.length > 0,
  arrival_window: isForward,
  arrival: isForward,
  caregiver: ({ informed, excluded_because: excluded }) => !informed || excluded === undefined,
  safe_contact: isPlan,
};

/**
 * Whether the members agree, each in itself and one with the other.
 * @param {Record<string, any>} members of a content, or of an answer; their spelling was checked
 */
export function agrees(members) {
  const { age_band: band, is_minor: stated, caregiver, needs, service_type: service } = members;
  const { referred_at: referred, respond_by: due } = members;
  const minor = band === undefined ? stated : MINORS.includes(band);
  return (
    Object.entries(members).every(([name, value]) => !Object.hasOwn(WITHIN, name) || WITHIN[name](value)) &&
    (stated === undefined || stated === minor) &&
    (caregiver === undefined || minor !== false) &&
    (service === undefined || (needs ?? []).every((/** @type {string} */ need) => NEEDS[service]?.includes(need))) &&
    (referred === undefined || due === undefined || isBefore(referred, due))
  );
}
