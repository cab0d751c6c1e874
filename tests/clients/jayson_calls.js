// jayson 5.0.0 as its README shows it: jayson_calls.js HOST PORT
'use strict';
const jayson = require('jayson/promise');

const [host, port] = process.argv.slice(2);
const client = jayson.Client.http({ host, port, path: '/api' });

(async () => {
  const out = {};
  out.positional = (await client.request('shop.subtract', [42, 23])).result;
  out.named = (await client.request('shop.subtract', { subtrahend: 23, minuend: 42 })).result;
  out.error = (await client.request('shop.fail', [])).error;
  out.unknown = (await client.request('shop.nope', [])).error.code;
  out.notification = (await client.request('shop.note', ['jayson'], null)) ?? null;
  const batch = await client.request([
    client.request('shop.add', [1, 2], undefined, false),
    client.request('shop.fail', [], undefined, false),
    client.request('shop.note', ['jayson'], null, false),
  ]);
  out.batch = batch.map((answer) => (answer.error ? answer.error.code : answer.result));
  const quiet = await client.request([client.request('shop.note', ['jayson'], null, false)]);
  out.quiet = quiet ?? null;
  out.after = (await client.request('shop.ran', ['jayson'])).result.length;
  console.log(JSON.stringify(out));
})().catch((error) => { console.error(error); process.exit(1); });
