// NATS micro services as the README of @nats-io/services makes them: an endpoint whose subject is
// its bare name, a group, a subject of the maker's own, one with wildcards, and errors.
//
// NATS_URL names the server. Prints "ready" once the server knows of all of it.

const { connect } = require("@nats-io/transport-node");
const { Svcm } = require("@nats-io/services");

async function main() {
  const nc = await connect({ servers: process.env.NATS_URL });
  const svc = new Svcm(nc);

  const max = await svc.add({
    name: "max",
    version: "0.0.1",
    description: "returns max number in a request",
  });
  max.addEndpoint("max", (err, msg) => msg.respond(JSON.stringify(Math.max(...msg.json()))));

  const calc = await svc.add({
    name: "calc",
    version: "0.0.1",
    description: "example calculator service",
  });
  const group = calc.addGroup("calc");
  group.addEndpoint("sum", {
    handler: (err, msg) => msg.respond(JSON.stringify(msg.json().reduce((a, b) => a + b, 0))),
    metadata: { unit: "none" },
  });
  const numbers = { type: "object", required: ["of"], properties: { of: { type: "array" } } };
  calc.addEndpoint("average", {
    subject: "statistics.v2.mean",
    metadata: {
      description: "The mean of numbers.",
      schema: JSON.stringify({ request: numbers, response: { type: "number" } }),
    },
    handler: (err, msg) => {
      const numbers = msg.json();
      msg.respond(JSON.stringify(numbers.reduce((a, b) => a + b, 0) / numbers.length));
    },
  });
  calc.addEndpoint("power", {
    subject: "raise.*.to.*",
    handler: (err, msg) => {
      const [, base, , exponent] = msg.subject.split(".");
      msg.respond(JSON.stringify(Number(base) ** Number(exponent)));
    },
  });
  calc.addEndpoint("fail", (err, msg) => msg.respondError(422, "no numbers", '{"field":"n"}'));
  await nc.flush();
  console.log("ready");
}

main();
