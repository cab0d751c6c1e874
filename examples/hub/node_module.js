#!/usr/bin/env node
// A module for Genkan's hub, with Node's standard library alone.
//
//     examples/hub/node_module.js [127.0.0.1:2203 | /run/genkan/hub.sock]
//
// Registers as `node`, declares `greet`, and answers whoever calls `node.greet`:
//
//     genkan call node greet name=you
'use strict';
const net = require('node:net');
const readline = require('node:readline');

const address = process.argv[2] || '127.0.0.1:2203';
const [host, port] = address.split(':');
const hub = address.includes('/') ? net.connect(address) : net.connect(Number(port), host);
let serial = 0;

function send(type, keys) {
  const frame = { requestId: `node-${serial++}`, type, ...keys };
  hub.write(JSON.stringify(frame) + '\n');
}

const functions = { greet: ({ name = 'you' }) => `Hello, ${name}, from node` };

send(1, { moduleId: 'node', version: '1.0.0', dependencies: {} });
readline.createInterface({ input: hub }).on('line', async (line) => {
  const { type, requestId, hook, function: name, arguments: args, error, message } = JSON.parse(line);
  if (type === 8 && hook === 'juno.activated') {
    for (const known of Object.keys(functions)) send(9, { function: known });
  } else if (type === 3) {
    try {
      send(4, { requestId, data: await functions[name](args) });
    } catch (thrown) {
      send(0, { requestId, error: 2, message: String(thrown) });
    }
  } else if (type === 0) {
    console.error('the hub:', message ?? error);
  }
});
hub.on('error', ({ message }) => { console.error(message); process.exitCode = 1; });
