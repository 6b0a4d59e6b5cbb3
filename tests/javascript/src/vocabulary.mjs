/** Sections 7 and 8: the terms of vocabulary 1 that stand in a header, and what a content is held against. */
export const VERSION = 1;

/** @param {string} names */
export const words = (names) => Object.freeze(names.split(/\s+/).filter(Boolean));

const SERVICES = `safe-accommodation transit-accommodation arrival-reception health-care post-rape-care
  mental-health-crisis psychosocial-support legal-aid police-protection labour-complaint wage-claim travel-documents
  repatriation reintegration family-assessment interpretation child-protection trafficking-identification
  trafficking-assistance livelihood cash-or-goods other-support`;

export const PURPOSES = Object.freeze([
  ...SERVICES.split(/\s+/).map((service) => `provide-${service}`),
  "statistics",
]);
export const GROUPS = Object.freeze(
  "routing need health safety name contact place caregiver identity employment police status perpetrator".split(" "),
);
export const PRIORITIES = Object.freeze("emergency urgent routine".split(" "));
export const BASES = Object.freeze("consent guardian exception".split(" "));
export const STAGES = Object.freeze("offer disclosure".split(" "));

export const MINORS = words("0-5 6-11 12-14 15-17");

const ACCOMMODATION = words(`tonight days weeks longer with-children pet-none pet-with-her private-room women-only
  confidential-address`);
/** The needs of each service. @type {Readonly<Record<string, readonly string[]>>} */
export const NEEDS = Object.freeze({
  "safe-accommodation": ACCOMMODATION,
  "transit-accommodation": ACCOMMODATION,
  "arrival-reception": words("airport seaport land-border onward-travel one-night medical-escort"),
  "health-care": words("injury pregnancy chronic-illness reproductive-health child-health examination"),
  "post-rape-care": words("medical-care forensic-examination-choice prophylaxis emergency-contraception follow-up"),
  "mental-health-crisis": words("crisis-now assessment follow-up"),
  "psychosocial-support": words("individual group remote in-person child"),
  "legal-aid": words("advice protection-order representation family-law labour-law immigration-law criminal-case"),
  "police-protection": words("escort collect-belongings protection-order immediate-response"),
  "labour-complaint": words(`working-conditions contract-substitution documents-returned transfer-employer
    violence-at-work`),
  "wage-claim": words("unpaid-wages deductions recruitment-fees end-of-service"),
  "travel-documents": words("lost withheld expired emergency-document"),
  repatriation: words("ticket escort exit-clearance medical-travel with-children"),
  reintegration: words("housing skills family-mediation-choice savings schooling"),
  "family-assessment": words("safe-return child-care family-tracing-choice"),
  interpretation: words("on-site telephone video sign-language repeated"),
  "child-protection": words("emergency-care assessment unaccompanied schooling"),
  "trafficking-identification": words("screening formal-identification"),
  "trafficking-assistance": words("accommodation legal medical reflection-period"),
  livelihood: words("training job-placement small-grant"),
  "cash-or-goods": words("food clothing phone-or-sim transport hygiene cash"),
  "other-support": words("information accompaniment other"),
});
