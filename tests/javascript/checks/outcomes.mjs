/**
 * Reads cases in the form of tests/vectors, one a line: {file, case}. Writes the outcome of each, one a line: `success`
 * or a code. With it another implementation is compared on input that no file lists.
 */
import { createInterface } from "node:readline";
import { Refusal } from "../src/refusal.mjs";
import { RUN } from "./cases.mjs";

for await (const line of createInterface({ input: process.stdin })) {
  const { file, case: given } = JSON.parse(line);
  let outcome = "success";
  try {
    RUN[file](given);
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    outcome = error.code;
  }
  process.stdout.write(`${outcome}\n`);
}
