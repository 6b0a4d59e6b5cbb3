#!/usr/bin/env node
/**
 * node open.mjs ENVELOPE.json KEYS.json
 *
 * Verifies one envelope and writes what it says to standard output. Refused, it writes the code of the protocol and
 * nothing else to standard error, and ends with 1. Keys come from a file, never from the command line, which every
 * process of the machine can read.
 */
import { readFileSync } from "node:fs";
import { unhex } from "./src/bytes.mjs";
import { openEnvelope, parseEnvelope, verifyEnvelope } from "./src/envelope.mjs";
import { Refusal } from "./src/refusal.mjs";

const [envelopeFile, keysFile] = process.argv.slice(2);
if (keysFile === undefined) {
  process.stderr.write("usage: node open.mjs ENVELOPE.json KEYS.json\n");
  process.exit(2);
}

/** @param {string} path */
function readText(path) {
  try {
    return readFileSync(path, "utf8");
  } catch {
    process.stderr.write(`cannot read ${path}\n`);
    process.exit(2);
  }
}

/** @param {string} path */
function readJson(path) {
  const text = readText(path);
  try {
    return JSON.parse(text);
  } catch {
    throw new Refusal("malformed");
  }
}

try {
  const keys = readJson(keysFile);
  const sender = { agency: unhex(keys.agency_public), node: unhex(keys.node_public) };
  const envelope = verifyEnvelope(parseEnvelope(readJson(envelopeFile)), sender);
  const content = openEnvelope(envelope, unhex(keys.epoch_private));
  if (content !== undefined) process.stdout.write(content);
} catch (error) {
  process.stderr.write(`${error instanceof Refusal ? error.code : "malformed"}\n`);
  process.exitCode = 1;
}
