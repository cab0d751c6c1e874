// The mesh's services in JavaScript: each method is a case, and each call that reaches one is told on
// standard output as `seen {…}`, with its context where the library shows one.
//
//   NATS_URL=nats://127.0.0.1:4222 node mesh_service.js picom|micro|nest
//
// Prints `ready` once it listens.
'use strict';

const CASES = ['echo', 'nothing', 'fail', 'pick', 'late', 'note'];
const REFUSED = { code: 'E42', message: 'no size', details: { line: 7 } };
const [kind] = process.argv.slice(2);
const servers = process.env.NATS_URL;
const ready = () => console.log('ready');

// `params` is JSON text where the library hands that over.
function see(method, params, headers) {
  const names = ['traceparent', 'X-Request-Id', 'Accept-Language', 'X-Request-Timeout'];
  const context = headers ? Object.fromEntries(names.map((name) => [name, headers.get(name)])) : {};
  const text = typeof params === 'string' ? params : JSON.stringify(params);
  console.log(`seen {"method":"${method}","params":${text},"context":${JSON.stringify(context)}}`);
}

// Picom 0.6.1's protocol by its own client, nats 1.0.0 (WIRE 2.1): a request's body is all that it sees.
function picom() {
  const nc = require('nats').connect({ url: servers, name: 'mesh_picom' });
  const methods = {
    echo: async (message) => message,
    nothing: async () => null,
    fail: () => Promise.reject(Object.assign(new Error('no size'), { code: 'E42' })),
    pick: () => Promise.reject(new Error('a size is missing')),
    late: () => new Promise(() => {}),
    note: async () => 'noted',
  };
  nc.on('connect', () => {
    nc.subscribe('mesh_picom.>', { queue: 'mesh_picom' }, (body, inbox, subject) => {
      const method = subject.slice(subject.lastIndexOf('.') + 1);
      see(method, body);
      const answer = (reply) => inbox && nc.publish(inbox, JSON.stringify(reply));
      if (!methods[method]) return answer({ error: `Method not found "${method}"` });
      const text = (reason) => (Object.keys(reason).length ? `${reason.message} ${JSON.stringify(reason)}` : reason.message);
      return methods[method](JSON.parse(body)).then(
        (payload) => answer({ payload }),
        (reason) => answer({ error: text(reason) }),
      );
    });
    nc.flush(ready);
  });
}

// A micro service's handler has the message's bytes.
async function micro() {
  const { connect } = require('@nats-io/transport-node');
  const { Svcm } = require('@nats-io/services');
  const nc = await connect({ servers });
  const service = await new Svcm(nc).add({ name: 'mesh_micro', version: '1.0.0' });
  const group = service.addGroup('mesh_micro');
  const answers = {
    echo: (message) => message.respond(message.data),
    nothing: (message) => message.respond('null'),
    fail: (message) => message.respondError(409, 'no size', JSON.stringify({ line: 7 })),
    pick: (message) => message.respondError(422, 'a size is missing'),
    late: () => {},
    note: (message) => message.respond('"noted"'),
  };
  for (const method of CASES) {
    group.addEndpoint(method, (error, message) => {
      see(method, message.string(), message.headers);
      answers[method](message);
    });
  }
  await nc.flush();
  ready();
}

async function nest() {
  require('reflect-metadata');
  const { Controller, Module } = require('@nestjs/common');
  const { NestFactory } = require('@nestjs/core');
  const { Ctx, MessagePattern, Payload, RpcException, Transport } = require('@nestjs/microservices');
  const answers = {
    echo: (data) => data,
    nothing: () => null,
    fail: () => { throw new RpcException(REFUSED); },
    pick: () => { throw new RpcException('a size is missing'); },
    late: () => new Promise(() => {}),
    note: () => 'noted',
  };
  class Mesh {}
  for (const method of CASES) {
    Mesh.prototype[method] = (data, context) => {
      see(method, data, context.getHeaders());
      return answers[method](data);
    };
    MessagePattern(`mesh_nest.${method}`)(
      Mesh.prototype,
      method,
      Object.getOwnPropertyDescriptor(Mesh.prototype, method),
    );
    Payload()(Mesh.prototype, method, 0);
    Ctx()(Mesh.prototype, method, 1);
  }
  Controller()(Mesh);
  class App {}
  Module({ controllers: [Mesh] })(App);
  const app = await NestFactory.createMicroservice(App, {
    transport: Transport.NATS,
    options: { servers: [servers], queue: 'mesh_nest' },
    logger: ['error'],
  });
  await app.listen();
  await app.unwrap().flush();
  ready();
}

({ picom, micro, nest })[kind]();
