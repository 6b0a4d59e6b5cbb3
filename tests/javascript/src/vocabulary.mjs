/** Section 7: the terms of vocabulary 1 that stand in a header. */
export const VERSION = 1;

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
