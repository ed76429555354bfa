// Reads {"secret", "jwk", "headers", "body"} and verifies both kinds of signatures, by other people's code alone:
// v1 by the library of Standard Webhooks, v1a by Node's own Ed25519.
const { createPublicKey, verify } = require("node:crypto");
const { readFileSync } = require("node:fs");
const { Webhook } = require("standardwebhooks");

const said = JSON.parse(readFileSync(0, "utf-8"));
const headers = Object.fromEntries(Object.entries(said.headers).map(([name, value]) => [name.toLowerCase(), value]));
const told = new Webhook(said.secret).verify(said.body, headers);
const signed = Buffer.from(`${headers["webhook-id"]}.${headers["webhook-timestamp"]}.${said.body}`);
const key = createPublicKey({ key: said.jwk, format: "jwk" });
const asymmetric = headers["webhook-signature"]
  .split(" ")
  .filter((each) => each.startsWith("v1a,"))
  .some((each) => verify(null, signed, key, Buffer.from(each.slice(4), "base64")));
console.log(JSON.stringify({ type: told.type, id: told.data.id, asymmetric }));
