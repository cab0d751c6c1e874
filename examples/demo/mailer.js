// The demo's JavaScript side: a service on NATS that speaks Picom's protocol, with nothing but
// NATS's own client. A request `mailer.METHOD` is answered with {"payload": …} or, if the handler
// rejects, with {"error": "…"}. What it has sent it tells on the subject `mail.sent`. It knows nothing of
// Genkan.
//
//   NODE_PATH=.genkan/node/node_modules node examples/demo/mailer.js nats://127.0.0.1:4222
'use strict';

const NATS = require('nats');

const service = 'mailer';
const sent = [];

const methods = new Map(Object.entries({
  async send(message) {
    const { to, text } = message || {};
    if (!/^\S+@\S+$/.test(to || '')) throw new Error(`"${to}" is no address to send to`);
    sent.push({ to, text });
    nats.publish('mail.sent', JSON.stringify({ to, number: sent.length }));
    return { to, text, number: sent.length };
  },

  async outbox() {
    return sent;
  },
}));

async function answer(body, subject) {
  const name = subject.slice(subject.lastIndexOf('.') + 1);
  if (!methods.has(name)) return { error: `Method not found "${name}"` };
  let message = null;
  try {
    if (body !== '') message = JSON.parse(body);
  } catch {
    return { error: 'Bad JSON request' };
  }
  try {
    return { payload: await methods.get(name)(message) };
  } catch (error) {
    return { error: error.message };
  }
}

const nats = NATS.connect({ url: process.argv[2] || 'nats://127.0.0.1:4222', name: service, maxReconnectAttempts: -1 });

nats.on('error', (error) => {
  console.error(error.message);
  process.exit(1);
});
nats.subscribe(`${service}.>`, { queue: service }, async (body, reply, subject) => {
  const text = JSON.stringify(await answer(body, subject));
  if (reply) nats.publish(reply, text);
});
nats.flush(() => console.log(`${service}: ready`));
