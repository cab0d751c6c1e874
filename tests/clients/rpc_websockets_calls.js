// rpc-websockets 10.0.1, as its README shows it: rpc_websockets_calls.js ws://…/api
'use strict';
const { Client } = require('rpc-websockets');

const client = new Client(process.argv[2], { reconnect: false });

client.on('open', async () => {
  const out = {};
  out.positional = await client.call('shop.subtract', [42, 23]);
  out.named = await client.call('shop.subtract', { subtrahend: 23, minuend: 42 });
  out.error = await client.call('shop.fail', []).then(
    () => 'no error', (error) => ({ code: error.code, message: error.message, data: error.data }));
  out.unknown = await client.call('shop.nope', []).then(() => 'no error', (error) => error.code);
  await client.notify('shop.note', ['rpc-websockets']);
  const sums = Array.from({ length: 200 }, (_, n) => client.call('shop.add', [n, 1]));
  out.sums = (await Promise.all(sums)).every((sum, n) => sum === n + 1);
  client.on('close', (code) => {
    out.closed = code;
    console.log(JSON.stringify(out));
  });
  client.close(1000, '');
});
client.on('error', (error) => { console.error(error); process.exit(1); });
