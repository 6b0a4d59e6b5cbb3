/** Every case of tests/vectors: success with the outputs it names, or exactly the refusal it names. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { x25519 } from "@noble/curves/ed25519.js";
import { hex, utf8 } from "../src/bytes.mjs";
import { openSealed, sealTo } from "../src/keys.mjs";
import { Refusal } from "../src/refusal.mjs";
import { RUN } from "./cases.mjs";

const VECTORS = new URL("../../vectors/", import.meta.url);
const MEMBER = /^[a-z_]+(\.[a-z]+)?$/;

for (const file of readdirSync(VECTORS).filter((name) => name.endsWith(".json"))) {
  const kind = file.replace(".json", "");
  const { cases } = JSON.parse(readFileSync(new URL(file, VECTORS), "utf8"));
  for (const c of cases) {
    test(`${kind}: ${c.name}`, () => {
      let outcome = "success";
      try {
        const outputs = RUN[kind](c);
        for (const [name, value] of Object.entries(outputs)) assert.deepEqual(value, c[name], name);
      } catch (error) {
        if (!(error instanceof Refusal)) throw error;
        outcome = error.code;
        // What is no canonical JSON each reader may describe in its own words; a member has one name.
        if (kind === "headers" && MEMBER.test(error.member ?? "")) assert.equal(error.member, c.member);
      }
      assert.equal(outcome, c.expect);
    });
  }
}

test("what is sealed here opens here", () => {
  const secret = x25519.utils.randomSecretKey();
  const sealed = sealTo(utf8("a data key of thirty-two bytes.."), x25519.getPublicKey(secret));
  assert.equal(sealed.length, 80);
  assert.equal(hex(openSealed(sealed, secret)), hex(utf8("a data key of thirty-two bytes..")));
});
