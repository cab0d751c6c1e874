// A NestJS microservice on NATS, without TypeScript: its decorators are called by hand.
//
//   NATS_URL=nats://127.0.0.1:4222 node nest_shop.js
//
// Prints `ready` once it listens.
'use strict';

require('reflect-metadata');
const { Controller, Module } = require('@nestjs/common');
const { NestFactory } = require('@nestjs/core');
const { Ctx, EventPattern, MessagePattern, Payload, RpcException, Transport } = require('@nestjs/microservices');
const { EMPTY, concat, interval, of, take, throwError } = require('rxjs');

const noted = [];

class Shop {
  add(data) { return data.reduce((sum, n) => sum + n, 0); }
  echo(data) { return data; }
  nothing() {}
  context(data, context) {
    const headers = context.getHeaders();
    const names = ['traceparent', 'X-Request-Id', 'Accept-Language', 'Genkan-Hops', 'X-Request-Timeout'];
    return Object.fromEntries(names.map((name) => [name, headers.get(name)]));
  }
  refuse() { throw new RpcException('no such order'); }
  explain() { throw new RpcException({ code: 'E42', message: 'bad order', details: { line: 7 } }); }
  fail() { throw new Error('what nobody is told'); }
  count() { return of(1, 2, 3); }
  tick() { return interval(2).pipe(take(300)); }
  endless() { return interval(50); }
  stumble() { return concat(of(1), throwError(() => new RpcException('broke'))); }
  empty() { return EMPTY; }
  never() { return new Promise(() => {}); }
  sum(data) { return data.a + data.b; }
  note(data) { noted.push(data); }
  noted() { return noted; }
}

const handle = (decorator, name) =>
  decorator(Shop.prototype, name, Object.getOwnPropertyDescriptor(Shop.prototype, name));
for (const name of Object.getOwnPropertyNames(Shop.prototype)) {
  if (name === 'constructor') continue;
  if (name === 'note') handle(EventPattern('shop.note'), name);
  else if (name === 'sum') handle(MessagePattern({ cmd: 'sum', v: 1 }), name);
  else handle(MessagePattern(`shop.${name}`), name);
}
Payload()(Shop.prototype, 'context', 0);
Ctx()(Shop.prototype, 'context', 1);
Controller()(Shop);

class App {}
Module({ controllers: [Shop] })(App);

async function main() {
  const app = await NestFactory.createMicroservice(App, {
    transport: Transport.NATS,
    options: { servers: [process.env.NATS_URL], queue: 'shop' },
    logger: ['error'],
  });
  await app.listen();
  await app.unwrap().flush();
  console.log('ready');
}

main();
