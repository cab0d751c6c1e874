// A browser's own WebSocket (Debian's Chromium): websocket_page.js HOST:PORT
// Two pages that are made here: one of the gateway's own origin, one of another. Prints what each saw.
'use strict';
const { chromium } = require('playwright-core');

const address = process.argv[2];

// These run in the page.
const calls = (url) => new Promise((resolve, reject) => {
  const out = {};
  const socket = new WebSocket(url);
  const waiting = new Map();
  socket.onerror = () => reject(new Error('failed'));
  socket.onmessage = ({ data }) => {
    const answer = JSON.parse(data);
    const first = Array.isArray(answer) ? answer[0] : answer;
    waiting.get(first.id)(answer);
  };
  let id = 0;
  const send = (request, key) => new Promise((answered) => {
    waiting.set(key, answered);
    socket.send(JSON.stringify(request));
  });
  const call = (method, params) => {
    id += 1;
    return send({ jsonrpc: '2.0', id, method, params }, id);
  };
  socket.onclose = ({ code, reason, wasClean }) => resolve({ ...out, code, reason, wasClean });
  socket.onopen = async () => {
    out.extensions = socket.extensions;
    out.positional = (await call('shop.subtract', [42, 23])).result;
    out.named = (await call('shop.subtract', { subtrahend: 23, minuend: 42 })).result;
    out.error = (await call('shop.fail', [])).error;
    out.unknown = (await call('shop.nope', [])).error.code;
    socket.send(JSON.stringify({ jsonrpc: '2.0', method: 'shop.note', params: ['browser'] }));
    const batch = await send([
      { jsonrpc: '2.0', id: 'a', method: 'shop.add', params: [1, 2] },
      { jsonrpc: '2.0', id: 'b', method: 'shop.fail', params: [] },
    ], 'a');
    out.batch = batch.map((answer) => (answer.error ? answer.error.code : answer.result));
    const sums = await Promise.all(Array.from({ length: 300 }, (_, n) => call('shop.add', [n, 1])));
    out.sums = sums.every((answer, n) => answer.result === n + 1);
    const large = 'é'.repeat(200000);
    out.large = (await call('shop.add', [large, 'x'])).result === `${large}x`;
    socket.send(new Blob(['{}']));
  };
});
const opens = (url) => new Promise((resolve) => {
  const socket = new WebSocket(url);
  socket.onopen = () => resolve('open');
  socket.onerror = () => resolve('failed');
});

async function visit(browser, url, script) {
  const page = await browser.newPage();
  await page.route(url, (route) => route.fulfill({ contentType: 'text/html', body: 'a page' }));
  await page.goto(url);
  const out = await page.evaluate(script, `ws://${address}/api`);
  await page.close();
  return out;
}

(async () => {
  const browser = await chromium.launch({
    executablePath: '/usr/bin/chromium',
    args: [
      '--headless=new', '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync', '--host-resolver-rules=MAP evil.example 127.0.0.1',
      // Chromium's own wall between other networks' pages and this machine, which other browsers lack.
      '--disable-features=LocalNetworkAccessChecks,BlockInsecurePrivateNetworkRequests',
    ],
  });
  const own = await visit(browser, `http://${address}/page`, calls);
  const foreign = await visit(browser, 'http://evil.example/page', opens);
  await browser.close();
  console.log(JSON.stringify({ own, foreign }));
})().catch((error) => { console.error(error); process.exit(1); });
