/** How a case of tests/vectors is run. */
import assert from "node:assert/strict";
import { ed25519 } from "@noble/curves/ed25519.js";
import { framed, hex, TAGS, unbase64url, unhex, utf8 } from "../src/bytes.mjs";
import { readContent } from "../src/content.mjs";
import { openEnvelope, parseEnvelope, verifyEnvelope } from "../src/envelope.mjs";
import { chooseEpochKey } from "../src/epochs.mjs";
import { parseHeader } from "../src/header.mjs";
import { commitment, keyId, sealTo, verifySignature } from "../src/keys.mjs";
import { pad, unpad } from "../src/padding.mjs";
import { checkReceipt } from "../src/receipt.mjs";
import { Refusal } from "../src/refusal.mjs";
import { derive, keyedDigest, openKeyFile, openRow, unwrapDataKey } from "../src/rest.mjs";
import { leaf, verifyStatement } from "../src/statements.mjs";

const STATEMENTS = {
  DeliveryReceipt: TAGS.DELIVERY_RECEIPT,
  ReleaseStatement: TAGS.RELEASE,
  ConsentStatus: TAGS.CONSENT_STATUS,
  Adherence: TAGS.ADHERENCE,
  EpochStatement: TAGS.EPOCH_KEY,
  EpochRevocation: TAGS.EPOCH_REVOCATION,
};

/** One function for each file; what it returns is compared with the members of the same name in the case. */
export const RUN = {
  headers(c) {
    parseHeader(utf8(c.header));
    return {};
  },

  envelopes(c) {
    const keys = { agency: unhex(c.agency_public), node: unhex(c.node_public) };
    const envelope = verifyEnvelope(parseEnvelope(c.envelope), keys);
    const content = openEnvelope(envelope, unhex(c.epoch_private));
    if (content === undefined) return { digest: envelope.digest };
    if (c.content_length !== undefined) return { digest: envelope.digest, content_length: content.length };
    return { digest: envelope.digest, content: hex(content) };
  },

  contents(c) {
    readContent(parseHeader(utf8(c.header)), utf8(c.content));
    return {};
  },

  padding(c) {
    if (c.padded_head !== undefined) {
      const padded = new Uint8Array(c.padded_length);
      padded.set(unhex(c.padded_head));
      unpad(padded);
      return {};
    }
    const content = c.content === undefined ? new Uint8Array(c.content_length) : unhex(c.content);
    const padded = pad(content);
    assert.deepEqual(unpad(padded), content);
    return { padded_length: padded.length };
  },

  keys(c) {
    if (c.public) return { key_id: keyId(unhex(c.public)) };
    if (c.parts) return { framed: hex(framed(TAGS[c.tag], ...c.parts.map(unhex))) };
    if (c.dek) return { commitment: commitment(unhex(c.dek)) };
    if (c.storage) {
      const storage = unhex(c.storage);
      return {
        row_key: hex(derive(storage, "rx1/sealed-rows")),
        token_seed: hex(derive(storage, "rx1/token-seed")),
        digest: hex(keyedDigest(storage, c.digest_use, unhex(c.digest_value))),
      };
    }
    sealTo(new Uint8Array(32), unhex(c.seal_to));
    return {};
  },

  signatures(c) {
    if (!verifySignature(unhex(c.signature), unhex(c.message), unhex(c.public))) throw new Refusal("bad-signature");
    return {};
  },

  statements(c) {
    const body = verifyStatement(utf8(c.statement), STATEMENTS[c.kind], unhex(c.public));
    return c.kind === "DeliveryReceipt" ? { leaf: leaf(body) } : {};
  },

  receipts(c) {
    checkReceipt(parseHeader(utf8(c.header)), unhex(c.public), c.at);
    return {};
  },

  epochs: (c) => ({ chosen: chooseEpochKey(c.statements, c.revocations, c.known_seq, c.at).key_id }),

  rest(c) {
    if (c.kind === "rewrap") {
      return { value: hex(unwrapDataKey(unhex(c.key), unhex(c.wrapped), c.referral, c.envelope)) };
    }
    if (c.kind === "row") {
      return { value: hex(openRow(derive(unhex(c.key), "rx1/sealed-rows"), unhex(c.sealed), c)) };
    }
    const floor = { opslimit: c.opslimit_floor, memlimit: c.memlimit_floor };
    const inside = openKeyFile(utf8(c.file), c.passphrase, floor);
    return { agency: keyId(ed25519.getPublicKey(unbase64url(inside.agency, "agency"))) };
  },
};
