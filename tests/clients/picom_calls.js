// Calls as Picom's client makes them (WIRE 2.1 and 2.2; nats client 1.0.0), its ways to die included:
//
//   node picom_calls.js URL FILE
//
// FILE holds a JSON list of [name, message?]; a name that begins with `!` is published. Prints a JSON list
// with a payload or an error for each.
'use strict';

const NATS = require('nats');
const fs = require('fs');

const [url, file] = process.argv.slice(2);
const calls = JSON.parse(fs.readFileSync(file));
const nc = NATS.connect({ url, name: 'caller' });

function request(name, message) {
  const body = message === undefined ? '' : JSON.stringify(message);
  if (name.startsWith('!')) {
    return new Promise((resolve) => {
      nc.publish(name.slice(1), body);
      nc.flush(() => resolve({ published: true }));
    });
  }
  return new Promise((resolve) => {
    nc.requestOne(name, body, {}, 20000, (reply) => {
      if (reply instanceof NATS.NatsError) return resolve({ error: `Request ${name} timed out` });
      let response;
      try { response = JSON.parse(reply); } catch (error) {
        // What it does not catch is an empty body: the process ends.
        if (reply === '') throw new TypeError('Cannot read properties of undefined');
        return resolve({ error: 'Bad JSON response' });
      }
      if (!response) return resolve({ error: 'Bad JSON response' });
      if (response.error) return resolve({ error: String(response.error), is_text: typeof response.error === 'string' });
      return resolve({ payload: response.payload });
    });
  });
}

nc.on('error', (error) => { console.error(String(error)); process.exit(1); });
nc.on('connect', async () => {
  const outcomes = [];
  for (const [name, message] of calls) outcomes.push(await request(name, message));
  process.stdout.write(JSON.stringify(outcomes), () => process.exit(0));
});
