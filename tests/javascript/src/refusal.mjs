/** Why something was refused: one of the codes of docs/protocol.md, section 15. Never what was inside. */
export class Refusal extends Error {
  /**
   * @param {string} code a code of the protocol
   * @param {string} [member] the protocol's name of what is wrong, never its value
   */
  constructor(code, member) {
    super(member === undefined ? code : `${code}: ${member}`);
    this.name = "Refusal";
    this.code = code;
    this.member = member;
  }
}

/**
 * Runs one step. Whatever a library reports for bad input is the one refusal of the step in which it happened.
 * @template T
 * @param {string} code
 * @param {() => T} step
 * @returns {T}
 */
export function refusing(code, step) {
  try {
    return step();
  } catch (error) {
    if (error instanceof Refusal) throw error;
    throw new Refusal(code);
  }
}
