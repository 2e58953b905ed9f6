// Receive events from Gatehouse with Express: verify, deduplicate, commit, answer.
//
//     npm install
//     WEBHOOK_SECRETS=whsec_... PORT=8000 node app.mjs
//
// It uses the SQLite that is part of Node 22.13 and newer.
import { DatabaseSync } from "node:sqlite";
import express from "express";
import { Webhook } from "standardwebhooks";

// During a rotation: the new and the old secret, with a space between them.
const webhooks = (process.env.WEBHOOK_SECRETS ?? "").split(" ").filter(Boolean).map((secret) => new Webhook(secret));

const db = new DatabaseSync(process.env.DATABASE ?? "app.db");
db.exec(`
  PRAGMA busy_timeout = 5000;
  CREATE TABLE IF NOT EXISTS received_events (
    webhook_id TEXT PRIMARY KEY, received_at TEXT DEFAULT CURRENT_TIMESTAMP
  );
  CREATE TABLE IF NOT EXISTS sales (sale TEXT NOT NULL, total TEXT NOT NULL);
`);
const insertId = db.prepare("INSERT INTO received_events (webhook_id) VALUES (?) ON CONFLICT DO NOTHING");
const insertSale = db.prepare("INSERT INTO sales (sale, total) VALUES (?, ?)");

const app = express();

// express.raw gives the bytes as they were sent. Do not put express.json in front of it: a parsed and rewritten
// body has another signature. Gatehouse accepts 1 MiB from a provider by default, and the event's attributes
// come on top. Express answers 413 to a longer body.
app.post("/events", express.raw({ type: () => true, limit: "2mb", inflate: false }), (request, response) => {
  if (!isSigned(request.body, request.headers)) {
    return response.sendStatus(401);
  }
  const event = parse(request.body);
  // IMMEDIATE takes the write lock first: of two attempts in two processes, the second one waits.
  db.exec("BEGIN IMMEDIATE");
  try {
    const { changes } = insertId.run(request.headers["webhook-id"]);
    if (changes) { // 0: a duplicate, which is done already
      handle(event);
    }
    db.exec("COMMIT");
  } catch (error) {
    db.exec("ROLLBACK");
    throw error; // Express answers 500, and Gatehouse tries again
  }
  response.sendStatus(204); // after the commit
});

// Check the signature (in constant time) and the timestamp (at most 5 minutes old).
function isSigned(body, headers) {
  return webhooks.some((webhook) => {
    try {
      webhook.verify(body, headers, { jsonParse: false });
      return true;
    } catch {
      return false;
    }
  });
}

// A JavaScript number would lose digits, so numbers become strings, as they were sent.
function parse(body) {
  return JSON.parse(body.toString(), (_, value, { source }) => (typeof value === "number" ? source : value));
}

// Do your work here, in the transaction that stores the id. Nothing in it may `await`: another request would
// get into the same transaction. With a database client that awaits, take one connection for each request.
function handle(event) {
  if (event.type === "sale.created") {
    insertSale.run(event.data.id, event.data.total);
  }
}

const server = app.listen(Number(process.env.PORT ?? 8000), process.env.HOST ?? "127.0.0.1", (error) => {
  if (error) {
    throw error;
  }
  const { address, port } = server.address();
  console.log(`listening on ${address}:${port}`);
});
