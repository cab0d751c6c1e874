// json-rpc-2.0 1.8.1 with fetch as its transport, as its README shows it: json_rpc_2_0_calls.js URL
'use strict';
const { JSONRPCClient, createJSONRPCRequest } = require('json-rpc-2.0');

const url = process.argv[2];
const client = new JSONRPCClient(async (request) => {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(request),
  });
  if (response.status === 200 && response.headers.get('content-length') !== '0') {
    return response.json().then((answer) => client.receive(answer));
  }
  if (request.id !== undefined || response.status !== 200) {
    return Promise.reject(new Error(response.statusText));
  }
  return undefined;
});

(async () => {
  const out = {};
  out.positional = await client.request('shop.subtract', [42, 23]);
  out.named = await client.request('shop.subtract', { subtrahend: 23, minuend: 42 });
  out.error = await client.request('shop.fail', []).then(
    () => 'no error', (error) => ({ code: error.code, message: error.message, data: error.data }));
  out.unknown = await client.request('shop.nope', []).then(() => 'no error', (error) => error.code);
  await client.notify('shop.note', ['json-rpc-2.0']);
  const batch = await client.requestAdvanced([
    createJSONRPCRequest(101, 'shop.add', [1, 2]),
    createJSONRPCRequest(102, 'shop.fail', []),
  ]);
  out.batch = batch.map((answer) => (answer.error ? answer.error.code : answer.result));
  out.after = (await client.request('shop.ran', ['json-rpc-2.0'])).length;
  console.log(JSON.stringify(out));
})().catch((error) => { console.error(error); process.exit(1); });
