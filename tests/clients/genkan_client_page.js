// clients/javascript in a browser (Debian's Chromium):
// genkan_client_page.js http://…/api HUB INDEX.JS MODULE.MJS
// Prints what a page saw that is of the gateway's own origin.
'use strict';
const { chromium } = require('playwright-core');

const [url, hub, script, helpers] = process.argv.slice(2);

// This runs in the page.
const visit = async () => {
  const { connect, GenkanError } = await import('/client.js');
  const out = { events: [], streamed: [] };
  const rpc = await connect({ timeout: 30000, pauses: { first: 20, longest: 50 } });
  out.positional = await rpc.fetch('shop', 'subtract', 42, 23);
  out.named = await rpc.service('shop').subtract({ subtrahend: 23, minuend: 42 });
  const error = await rpc.fetch('shop', 'fail').catch((error) => error);
  out.error = error instanceof GenkanError && [error.kind, error.code, error.outcome, error.data.class];
  const batch = await rpc.batch([['shop', 'add', 1, 2], ['shop', 'fail']]);
  out.batch = batch.map(({ value, reason }) => value ?? reason.message);
  const http = await connect({ transport: 'http', timeout: 30000, token: () => 'secret', pauses: { first: 20, longest: 50 } });
  out.http = await http.fetch('shop', 'subtract', 42, 23);
  let heard = () => {};
  const both = async (count) => {
    const isShort = ({ length }) => length < count;
    while ([out.events, out.streamed].some(isShort)) await new Promise((resolve) => { heard = resolve; });
  };
  await rpc.subscribe('till.*', ({ data }) => { out.events.push(data.n); heard(); });
  await http.subscribe('till.*', ({ data }) => { out.streamed.push(data.n); heard(); });
  await window.trigger(1);
  await both(1);
  await window.triggerWhileCut(2);
  await both(2);
  rpc.close();
  http.close();
  return out;
};

(async () => {
  const { module, wire } = await import(helpers);
  const till = await module(hub, 'till', {});
  const way = await wire(url);
  const browser = await chromium.launch({
    executablePath: '/usr/bin/chromium',
    args: [
      '--headless=new', '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync',
      // The page is made here, so Chromium does not know that it is of this machine's own network.
      '--disable-features=LocalNetworkAccessChecks,BlockInsecurePrivateNetworkRequests',
    ],
  });
  const page = await browser.newPage();
  const { origin } = new URL(way.url);
  await page.route(`${origin}/page`, (route) => route.fulfill({ contentType: 'text/html', body: 'a page' }));
  await page.route(`${origin}/client.js`, (route) => route.fulfill({ path: script }));
  await page.exposeFunction('trigger', (n) => till.trigger('sold', { n }));
  await page.exposeFunction('triggerWhileCut', async (n) => {
    way.cut();
    await till.trigger('sold', { n });
    way.mend();
  });
  await page.goto(`${origin}/page`);
  const out = await page.evaluate(visit);
  await browser.close();
  way.close();
  till.close();
  console.log(JSON.stringify(out));
})().catch((error) => { console.error(error); process.exit(1); });
