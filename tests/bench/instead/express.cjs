// A hand-written receiver in Node, for comparison: it verifies the signature and forwards within the request.
// It stores nothing and detects no duplicates. It uses Express if NODE_PATH contains it, otherwise node:http.
// Prints the port and the library that it uses.
"use strict";
const crypto = require("node:crypto");
const http = require("node:http");

const secret = process.env.SECRET;
const destination = process.env.DESTINATION;

function verified(body, signature) {
  const expected = Buffer.from("sha256=" + crypto.createHmac("sha256", secret).update(body).digest("hex"));
  const given = Buffer.from(signature || "");
  return given.length === expected.length && crypto.timingSafeEqual(given, expected);
}

async function answer(body, headers) {
  if (!verified(body, headers["x-mando-signature"])) return 401;
  const reply = await fetch(destination, {
    method: "POST", body, headers: { "content-type": headers["content-type"] },
  });
  await reply.arrayBuffer();
  return reply.ok ? 200 : 502;
}

function express() {
  const found = require("express");
  const app = found();
  app.post("/webhooks/sent", found.raw({ type: "*/*", limit: "1mb" }), async (request, response) => {
    response.sendStatus(await answer(request.body, request.headers));
  });
  return ["Express", app];
}

function plain() {
  return ["node:http", async (request, response) => {
    const parts = [];
    for await (const part of request) parts.push(part);
    response.statusCode = await answer(Buffer.concat(parts), request.headers);
    response.end();
  }];
}

function made() {
  try {
    return express();
  } catch {
    return plain();
  }
}

const [name, listener] = made();
const server = http.createServer(listener);
server.listen({ port: 0, host: "127.0.0.1", backlog: 1024 }, () => {
  process.stdout.write(`${server.address().port} ${name}\n`);
});
