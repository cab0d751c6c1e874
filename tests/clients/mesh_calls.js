// JavaScript's clients as processes that are told their calls, a JSON object a line:
//
//   node mesh_calls.js picom|micro|nest HOST:PORT URL
//
// It connects to HOST:PORT. A line is {"n", "service", "method", "params", "text", "headers"}, where `text` is
// the params as they were written; with `forget` it is no call but a message that nobody answers. It is
// answered by {"n", "result"} or {"n", "error"}.
'use strict';

const net = require('net');
const readline = require('readline');

const [kind, address, url] = process.argv.slice(2);
const PATIENCE = 60000;

// Picom's client by nats 1.0.0 (WIRE 2.2).
function picom() {
  const NATS = require('nats');
  const nc = NATS.connect({ url, name: 'caller' });
  const send = ({ service, method, params, forget }) => new Promise((resolve) => {
    const [name, body] = [`${service}.${method}`, JSON.stringify(params)];
    if (forget) {
      nc.publish(name, body);
      return nc.flush(() => resolve({ result: 'forgotten' }));
    }
    return nc.requestOne(name, body, {}, PATIENCE, (reply) => {
      if (reply instanceof NATS.NatsError) return resolve({ error: `Request ${name} timed out` });
      const response = JSON.parse(reply);
      return resolve(response.error ? { error: response.error } : { result: response.payload });
    });
  });
  return new Promise((resolve) => nc.on('connect', () => resolve(send)));
}

// A micro service's callers send bytes to the subjects that its `$SRV.INFO` names.
async function micro() {
  const { connect, headers } = require('@nats-io/transport-node');
  const { Svcm, ServiceError } = require('@nats-io/services');
  const nc = await connect({ servers: url });
  const client = new Svcm(nc).client({ strategy: 'count', maxMessages: 1, maxWait: PATIENCE });
  const known = new Map();
  async function info(service) {
    for await (const one of await client.info(service)) return one;
    throw new Error(`nobody is ${service}`);
  }
  return async (order) => {
    if (!known.has(order.service)) known.set(order.service, info(order.service));
    const { endpoints } = await known.get(order.service);
    const { subject } = endpoints.find(({ name }) => name === order.method);
    const rows = headers();
    for (const [name, value] of Object.entries(order.headers)) rows.set(name, value);
    if (order.forget) {
      nc.publish(subject, order.text, { headers: rows });
      await nc.flush();
      return { result: 'forgotten' };
    }
    const reply = await nc.request(subject, order.text, { timeout: PATIENCE, headers: rows });
    if (!ServiceError.isServiceError(reply)) return { text: reply.string() };
    return { error: { ...ServiceError.toServiceError(reply), body: reply.json() } };
  };
}

async function nest() {
  const { ClientProxyFactory, NatsRecordBuilder, Transport } = require('@nestjs/microservices');
  const { headers } = require('nats');
  const { lastValueFrom, timeout } = require('rxjs');
  const client = ClientProxyFactory.create({ transport: Transport.NATS, options: { servers: [url] } });
  await client.connect();
  return async (order) => {
    const rows = headers();
    for (const [name, value] of Object.entries(order.headers)) rows.set(name, value);
    const record = new NatsRecordBuilder(order.params).setHeaders(rows).build();
    const pattern = `${order.service}.${order.method}`;
    if (order.forget) {
      await lastValueFrom(client.emit(pattern, record), { defaultValue: null });
      await client.unwrap().flush();
      return { result: 'forgotten' };
    }
    try {
      return { result: await lastValueFrom(client.send(pattern, record).pipe(timeout(PATIENCE))) };
    } catch (error) {
      return { error: error instanceof Error ? `${error.name}: ${error.message}` : error };
    }
  };
}

async function main() {
  const send = await { picom, micro, nest }[kind]();
  const [host, port] = address.split(':');
  const test = net.connect(Number(port), host);
  readline.createInterface({ input: test }).on('line', async (line) => {
    const order = JSON.parse(line);
    const { text, ...outcome } = await send(order);
    // A text is JSON that the library has not read.
    if (text === undefined) test.write(`${JSON.stringify({ n: order.n, ...outcome })}\n`);
    else test.write(`{"n":${order.n},"result":${text}}\n`);
  });
}

main();
