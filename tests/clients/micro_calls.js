// What a client of NATS micro services does with @nats-io/services:
//
//   node micro_calls.js URL NAME FILE
//
// It asks who NAME is and what it has, then calls the endpoints that FILE lists, as [endpoint, message?],
// by the subjects that it was told, and asks for the statistics. Prints all of it as JSON.
'use strict';

const fs = require('fs');
const { connect, Empty } = require('@nats-io/transport-node');
const { Svcm, ServiceError } = require('@nats-io/services');

async function all(iterator) {
  const found = [];
  for await (const one of iterator) found.push(one);
  return found;
}

async function main() {
  const [url, name, file] = process.argv.slice(2);
  const nc = await connect({ servers: url });
  const client = new Svcm(nc).client({ strategy: 'stall', maxWait: 2000 });
  const everybody = await all(await client.ping());
  const pings = await all(await client.ping(name));
  const infos = await all(await client.info(name));
  const alone = await all(await client.info(name, infos[0].id));
  const outcomes = [];
  for (const [endpoint, message] of JSON.parse(fs.readFileSync(file))) {
    const { subject } = infos[0].endpoints.find((one) => one.name === endpoint);
    const reply = await nc.request(subject, message === undefined ? Empty : JSON.stringify(message), { timeout: 20000 });
    if (ServiceError.isServiceError(reply)) {
      const { code, message } = ServiceError.toServiceError(reply);
      outcomes.push({ code, error: message, body: reply.json() });
    } else {
      outcomes.push({ result: reply.json() });
    }
  }
  const stats = await all(await client.stats(name));
  console.log(JSON.stringify({ everybody, pings, infos, alone, outcomes, stats }));
  await nc.close();
}

main();
