// What the client makes of answers that are not the gateway's own, or leave something out: here from a bare server.

import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { test } from 'node:test';

import { connect, GenkanError } from 'genkan-client';

const rejects = (promise, expected) => assert.rejects(promise, (error) => {
  assert.ok(error instanceof GenkanError, String(error));
  for (const [key, value] of Object.entries(expected)) assert.equal(error[key], value, `${key}: ${error}`);
  return true;
});

/** A client over HTTP of a server that answers so. */
async function client(t, answer, options) {
  const server = createServer(answer);
  await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  t.after(() => server.close());
  const url = `http://127.0.0.1:${server.address().port}/api`;
  return { url, rpc: await connect({ url, transport: 'http', ...options }) };
}

test('a token is asked for each request', async (t) => {
  const got = [];
  let turn = 0;
  const token = async () => `t${++turn}`;
  const { rpc, url } = await client(t, (request, response) => {
    got.push(request.headers.authorization);
    if (request.url === '/events?topic=a.%3F') {
      response.writeHead(403).end('{"kind":"access_denied","outcome":"rejected","detail":"not you","code":-32002}');
      return;
    }
    response.end('{"jsonrpc":"2.0","id":null,"error":{"code":-1,"message":"no"}}');
  }, { token });
  for (const _ of [1, 2]) await rejects(rpc.fetch('a', 'b'), { code: -1, kind: 'application', outcome: 'unknown' });
  await rejects(rpc.subscribe('a.?', () => {}), { kind: 'access_denied', message: 'not you', outcome: 'rejected' });
  assert.deepEqual(got, ['Bearer t1', 'Bearer t2', 'Bearer t3']);
  const key = await connect({ url: url, token: 'key', transport: 'http' });
  await rejects(key.fetch('a', 'b'), { code: -1 });
  assert.equal(got.at(-1), 'Bearer key');
});

test('an error of a JSON-RPC service whose data has no room for a kind is of that which its code says', async (t) => {
  let error;
  const { rpc } = await client(t, (_, response) => response.end(JSON.stringify({ jsonrpc: '2.0', id: null, error })));
  for (const [code, kind, outcome] of [
    [-32601, 'unknown_method', 'unknown'],
    [-32602, 'invalid_params', 'unknown'],
    [-32700, 'application', 'unknown'],
    [-32600, 'application', 'unknown'],
    [-32603, 'application', 'executed'],
    [7, 'application', 'executed'],
  ]) {
    for (const data of ['words', ['a', 'list'], 0]) {
      error = { code, message: 'no', data };
      await rejects(rpc.fetch('a', 'b'), { code, kind, outcome, retryable: false, message: 'no' });
    }
  }
  error = { code: -32601, message: 'no', data: { kind: 'unknown_service', outcome: 'not_sent' } };
  await rejects(rpc.fetch('a', 'b'), { kind: 'unknown_service', outcome: 'not_sent' });
});

test('what a proxy says in the place of the gateway is of the kind that its status means', async (t) => {
  let status, body;
  const { rpc } = await client(t, (_, response) => response.writeHead(status).end(body));
  const page = '<html><head><title>No</title></head><body><center><h1>No</h1></center><hr></body></html>';
  for (body of [page, '', 'no '.repeat(1000), '{"message":"no"}', '{"error":"no"}', 'null']) {
    for (const [code, kind, outcome, retryable] of [
      [401, 'access_denied', 'not_sent', false],
      [403, 'access_denied', 'not_sent', false],
      [413, 'too_large', 'not_sent', false],
      [429, 'overloaded', 'not_sent', true],
      [404, 'unavailable', 'unknown', false],
      [500, 'unavailable', 'unknown', false],
      [502, 'unavailable', 'unknown', false],
      [503, 'unavailable', 'unknown', false],
      [504, 'timeout', 'unknown', false],
    ]) {
      status = code;
      await rejects(rpc.fetch('a', 'b'), { kind, outcome, retryable });
      const { message } = await rpc.fetch('a', 'b').catch((error) => error);
      assert.match(message, new RegExp(`^HTTP ${code}: [^<]{0,200}$`));
    }
  }
});
