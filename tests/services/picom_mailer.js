// A service that speaks Picom's protocol on NATS, as Picom 0.6.1 does (nats client 1.0.0),
// its ways to die included:
//
//   NATS_URL=nats://127.0.0.1:4222 MAILER_NAME=mailer node picom_mailer.js
//
// Prints `ready` once it is subscribed.
'use strict';

const NATS = require('nats');

const service = process.env.MAILER_NAME || 'mailer';
const nc = NATS.connect({ url: process.env.NATS_URL, name: service, maxReconnectAttempts: -1, reconnectTimeWait: 100 });
const noted = [];

const later = (ms, value) => new Promise((resolve) => setTimeout(() => resolve(value), ms));
const failed = (properties) => Object.assign(new Error('with props'), properties);

// A plain object, as services write it: what its prototype has is found as a handler too.
const methods = {
  send: async (message) => ({ sent: true, to: (message && message.to) || null }),
  echo: async (message) => message,
  add: async (message) => (Array.isArray(message) ? message[0] + message[1] : message.a + message.b),
  note: async (message) => noted.push(message),
  noted: async () => noted,
  slow: (ms) => later(ms, ms),
  seven: async () => 7,
  text: async () => 'text',
  nothing: async () => null,
  zero: async () => 0,
  no: async () => false,
  silent: async () => undefined,
  reject_text: () => Promise.reject('mailbox full'),
  reject_error: () => Promise.reject(new Error('an Error')),
  reject_code: () => Promise.reject(failed({ code: 'E42' })),
  reject_object: () => Promise.reject({ message: 'not good', n: 1 }),
  reject_nothing: () => Promise.reject(undefined),
  reject_empty: () => Promise.reject(''),
  // What a call of its own to another service's method of the same name got.
  pass_on: async (message) => { noted.push(message); throw new Error('Method not found "pass_on"'); },
  pass_bad_on: async (message) => { noted.push(message); throw new Error('Bad JSON request'); },
  never: () => new Promise(() => {}),
  no_promise: () => 'a plain value ends the process when it was requested',
  throws: () => { throw new Error('synchronously: ends the process'); },
};

// What a rejection becomes on the wire.
function errorText(reason) {
  if (reason instanceof Error) {
    const own = Object.keys(reason);
    return own.length ? `${reason.message} ${JSON.stringify(reason)}` : reason.message;
  }
  return typeof reason === 'object' ? JSON.stringify(reason) : reason;
}

nc.on('connect', () => {
  nc.subscribe(`${service}.>`, { queue: service }, (body, inbox, subject) => {
    const answer = (reply) => inbox && nc.publish(inbox, JSON.stringify(reply));
    let message = null;
    if (body) {
      try { message = JSON.parse(body); } catch (error) { message = null; }
      if (!message) return answer({ error: 'Bad JSON request' });
    }
    const name = subject.slice(subject.lastIndexOf('.') + 1);
    const handler = methods[name];
    if (!handler) return answer({ error: `Method not found "${name}"` });
    const promise = handler(message);
    if (!inbox) return undefined;
    return promise.then((payload) => answer({ payload }), (reason) => answer({ error: errorText(reason) }));
  });
  nc.flush(() => console.log('ready'));
});
nc.on('error', (error) => { console.error(String(error)); });
process.on('SIGTERM', () => process.exit(0));
