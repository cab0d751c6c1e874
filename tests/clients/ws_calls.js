// ws 8.23.0, the library that most of Node's programs speak WebSocket by: ws_calls.js ws://…/api
'use strict';
const WebSocket = require('ws');

const url = process.argv[2];
const open = (...options) => new Promise((resolve, reject) => {
  const socket = new WebSocket(url, ...options);
  socket.on('open', () => resolve(socket));
  socket.on('error', reject);
});
const closed = (socket) => new Promise((resolve) => {
  socket.on('close', (code, reason) => resolve([code, String(reason)]));
});

(async () => {
  const out = {};
  // It offers per-message compression unless told not to, and it asks for a protocol by name.
  const socket = await open('jsonrpc', { headers: { 'Accept-Language': 'de' } });
  out.protocol = socket.protocol;
  out.extensions = socket.extensions;
  const waiting = new Map();
  socket.on('message', (data, isBinary) => {
    const answer = JSON.parse(data);
    const first = Array.isArray(answer) ? answer[0] : answer;
    waiting.get(first.id)(isBinary ? 'binary' : answer);
  });
  let id = 0;
  const call = (method, params) => new Promise((resolve) => {
    id += 1;
    waiting.set(id, resolve);
    socket.send(JSON.stringify({ jsonrpc: '2.0', id, method, params }));
  });
  out.positional = (await call('shop.subtract', [42, 23])).result;
  out.named = (await call('shop.subtract', { subtrahend: 23, minuend: 42 })).result;
  out.error = (await call('shop.fail', [])).error;
  out.unknown = (await call('shop.nope', [])).error.code;
  socket.send(JSON.stringify({ jsonrpc: '2.0', method: 'shop.note', params: ['ws'] }));
  const batch = await new Promise((resolve) => {
    waiting.set('a', resolve);
    socket.send(JSON.stringify([
      { jsonrpc: '2.0', id: 'a', method: 'shop.add', params: [1, 2] },
      { jsonrpc: '2.0', id: 'b', method: 'shop.fail', params: [] },
    ]));
  });
  out.batch = batch.map((answer) => (answer.error ? answer.error.code : answer.result));
  const sums = Array.from({ length: 500 }, (_, n) => call('shop.add', [n, 1]));
  out.sums = (await Promise.all(sums)).every((answer, n) => answer.result === n + 1);
  const large = 'é'.repeat(200000);
  out.large = (await call('shop.add', [large, 'x'])).result === `${large}x`;
  out.pong = await new Promise((resolve) => {
    socket.on('pong', (data) => resolve(String(data)));
    socket.ping('there?');
  });
  // A message in pieces.
  const pieces = ['{"jsonrpc":"2.0","id":"p","method":"shop', '.add","params"', ':[1,1]}'];
  out.pieces = await new Promise((resolve) => {
    waiting.set('p', (answer) => resolve(answer.result));
    pieces.forEach((piece, n) => socket.send(piece, { fin: n === pieces.length - 1 }));
  });
  const bye = closed(socket);
  socket.close(4001, 'enough');
  out.closed = (await bye)[0];
  const binary = await open();
  const ended = closed(binary);
  binary.send(Buffer.from('{"jsonrpc":"2.0","id":1,"method":"shop.add","params":[1,1]}'));
  out.binary = await ended;
  console.log(JSON.stringify(out));
})().catch((error) => { console.error(error); process.exit(1); });
