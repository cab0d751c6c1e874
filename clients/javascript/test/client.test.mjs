// The client as it is installed, before a real gateway. GENKAN_URL is its /api, GENKAN_HUB its hub, GENKAN_CONFIG its
// configuration. One at LIMITED_URL, with its hub at LIMITED_HUB, takes five calls a minute. Another gateway, at GUARDED_URL with its hub at GUARDED_HUB, lets in ada alone, by tokens that GUARDED_SECRET signs.

import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { after, before, test } from 'node:test';
import { gzipSync } from 'node:zlib';

import { connect, GenkanError } from 'genkan-client';

import { module, wire } from './module.mjs';

const require = createRequire(import.meta.url);
const WebSocket = require('ws'); // found by NODE_PATH; Node 20 has none of its own
const { GENKAN_URL: url, GENKAN_HUB: hub } = process.env;

let till, served = 0;
const calls = [];
/** Resolves the next time that a function of that name is called. */
const called = (name) => new Promise((resolve) => { calls.push({ name, resolve }); });
const seen = (name, given) => {
  for (const call of calls.filter((call) => call.name === name)) {
    calls.splice(calls.indexOf(call), 1);
    call.resolve(given);
  }
};
before(async () => {
  till = await module(hub, 'till', {
    echo: (given) => given,
    add: ({ a, b }) => a + b,
    next: () => ++served,
    note: (given) => { seen('note', given); return null; },
    never: (given) => { seen('never', given); return new Promise(() => {}); },
  });
});
after(() => till.close());

const ways = { websocket: { url, WebSocket }, http: { url, transport: 'http' } };
const rejects = (promise, expected) => assert.rejects(promise, (error) => {
  assert.ok(error instanceof GenkanError, String(error));
  for (const [key, value] of Object.entries(expected)) assert.equal(error[key], value, `${key}: ${error}`);
  return true;
});

for (const [way, options] of Object.entries(ways)) {
  const open = async (t) => {
    const rpc = await connect({ ...options, timeout: 30_000 });
    t.after(() => rpc.close());
    return rpc;
  };

  test(`${way}: calls, by fetch, by proxy, many at once`, async (t) => {
    const rpc = await open(t);
    assert.equal(await rpc.fetch('till', 'add', { a: 19, b: 23 }), 42);
    assert.deepEqual(await rpc.service('till').echo({ ü: ['é', null] }), { ü: ['é', null] });
    assert.deepEqual(await rpc.fetch('till', 'echo'), {});
    const many = Array.from({ length: 50 }, (_, n) => rpc.fetch('till', 'add', { a: n, b: 1 }));
    assert.deepEqual(await Promise.all(many), many.map((_, n) => n + 1));
    // A proxy is no promise.
    assert.equal(await rpc.service('till').then, undefined);
    // What JavaScript asks of any object is no call.
    const calls = [];
    rpc.fetch = (...call) => { calls.push(call); };
    const till = rpc.service('till');
    assert.deepEqual([`${till}`, JSON.stringify({ till }), till == 'x', till + 1], ['[object Object]', '{"till":{}}', false, '[object Object]1']);
    assert.deepEqual([[till].toLocaleString(), till.hasOwnProperty('echo')], ['[object Object]', false]);
    assert.deepEqual(calls, []);
  });

  test(`${way}: several params are a list`, async (t) => {
    const rpc = await open(t);
    // The row names them, and takes neither more nor fewer.
    assert.equal(await rpc.fetch('listed', 'add', 19, 23), 42);
    await rejects(rpc.fetch('listed', 'add', 1, 2, 3), { kind: 'invalid_params' });
  });

  test(`${way}: a call runs once under a key`, async (t) => {
    const rpc = await open(t);
    const once = rpc.with({ idempotencyKey: way });
    const first = await once.fetch('till', 'next');
    assert.equal(await once.fetch('till', 'next'), first);
    assert.equal(await rpc.fetch('till', 'next'), first + 1);
    await rejects(once.fetch('till', 'next', { other: 1 }), { kind: 'invalid_params', outcome: 'not_sent' });
    const batch = async () => {
      const ends = await once.batch([['till', 'next'], ['till', 'next']]);
      return ends.map(({ value }) => value).sort();
    };
    assert.deepEqual(await batch(), [first + 2, first + 3]);
    assert.deepEqual(await batch(), [first + 2, first + 3]);
  });

  test(`${way}: faults say what may be believed`, async (t) => {
    const rpc = await open(t);
    const unknown = { kind: 'unknown_service', code: -32601, outcome: 'not_sent', name: 'GenkanError' };
    await rejects(rpc.fetch('nobody', 'add'), unknown);
    await rejects(rpc.service('till').nope(), { kind: 'unknown_method', code: -32601 });
    const error = await rpc.fetch('nobody', 'add').catch((error) => error);
    assert.equal(error.data.kind, 'unknown_service');
    assert.equal(error.retryable, error.data.retryable);
  });

  test(`${way}: params that no JSON can say, and more than the gateway takes`, async (t) => {
    const rpc = await open(t);
    const refused = { kind: 'invalid_params', code: -32602, outcome: 'not_sent', retryable: false };
    await rejects(rpc.fetch('till', 'echo', { n: 1n }), refused);
    const circle = {};
    circle.self = circle;
    await rejects(rpc.fetch('till', 'echo', circle), refused);
    await rejects(rpc.notify('till', 'note', [circle]), refused);
    const large = { kind: 'too_large', code: -32006, outcome: 'not_sent', retryable: false };
    await rejects(rpc.fetch('till', 'echo', { text: 'x'.repeat(2 << 20) }), large);
    assert.equal(await rpc.fetch('till', 'add', { a: 1, b: 2 }), 3);
  });

  test(`${way}: a notification runs, and is not answered`, async (t) => {
    const rpc = await open(t);
    const ran = called('note');
    assert.equal(await rpc.notify('till', 'note', { by: way }), undefined);
    assert.deepEqual(await ran, { by: way });
  });

  test(`${way}: a batch ends call by call`, async (t) => {
    const rpc = await open(t);
    const ended = await rpc.batch([['till', 'add', { a: 1, b: 2 }], ['nobody', 'add'], ['till', 'echo', { n: 3 }]]);
    assert.deepEqual(ended.map(({ status }) => status), ['fulfilled', 'rejected', 'fulfilled']);
    assert.deepEqual([ended[0].value, ended[1].reason.kind, ended[2].value], [3, 'unknown_service', { n: 3 }]);
    assert.deepEqual(await rpc.batch([]), []);
    // One that no JSON can say holds back no other, and neither does one that takes too long.
    const unlike = [['till', 'add', { a: 1n }], ['till', 'add', { a: 1, b: 2 }], ['till', 'never'], ['till', 'echo', { n: 4 }]];
    const [unsayable, sum, late, echo] = await rpc.with({ timeout: 2000 }).batch(unlike);
    assert.deepEqual([unsayable.reason.kind, unsayable.reason.outcome], ['invalid_params', 'not_sent']);
    assert.deepEqual([sum.value, late.reason?.kind, late.reason?.outcome, echo.value], [3, 'timeout', 'unknown', { n: 4 }]);
    const [none] = await rpc.batch([['till', 'add', { a: 1n }]]);
    assert.equal(none.reason.kind, 'invalid_params');
    rpc.close();
    const closed = await rpc.batch([['till', 'add', { a: 1, b: 2 }]]);
    assert.equal(closed[0].reason.outcome, 'not_sent');
  });

  test(`${way}: a call that is too late, given up, or closed`, async (t) => {
    const rpc = await open(t);
    const late = { kind: 'timeout', code: -32003, outcome: 'unknown', retryable: false };
    await rejects(rpc.with({ timeout: 300 }).fetch('till', 'never'), late);
    const stopper = new AbortController();
    const asked = called('never');
    const given = rpc.with({ signal: stopper.signal }).service('till').never();
    await asked;
    stopper.abort(new Error('enough'));
    await assert.rejects(given, /enough/);
    await assert.rejects(rpc.with({ signal: stopper.signal }).fetch('till', 'add', { a: 1, b: 2 }), /enough/);
    // The connection is none the worse for it.
    assert.equal(await rpc.fetch('till', 'add', { a: 1, b: 2 }), 3);
    const again = called('never');
    const waits = rpc.fetch('till', 'never');
    await Promise.all([again.then(() => rpc.close()), rejects(waits, { kind: 'unavailable', outcome: 'unknown' })]);
    await rejects(rpc.fetch('till', 'echo'), { kind: 'unavailable', outcome: 'not_sent' });
  });
}

test('it is at most 5 KiB, minified and gzipped, and may be required', async () => {
  const size = gzipSync(readFileSync(new URL(import.meta.resolve('genkan-client')))).length;
  assert.ok(size <= 5 * 1024, `${size} bytes`);
  assert.equal(typeof require('genkan-client').connect, 'function');
});

test('a program that was written for Miko', async () => {
  const options = { url, WebSocket }; // and its import: nothing else has changed
  const rpc = await connect(options);
  const result = await rpc.fetch('till', 'echo');
  assert.deepEqual(result, {});
  await assert.rejects(rpc.fetch('till', 'nope'), Error);
  await rpc.close();
});

test('a lost connection: what was sent is unknown, what was not waits for the next', async (t) => {
  const way = await wire(url);
  t.after(() => way.close());
  const rpc = await connect({ url: way.url, WebSocket, timeout: 20_000, pauses: { first: 20, longest: 50 } });
  t.after(() => rpc.close());
  const asked = called('never');
  const lost = rejects(rpc.fetch('till', 'never'), { kind: 'unavailable', outcome: 'unknown', retryable: false });
  await asked;
  way.cut();
  await lost;
  const late = rpc.with({ timeout: 100 }).fetch('till', 'echo');
  await rejects(late, { kind: 'timeout', outcome: 'not_sent', retryable: true });
  const waits = [rpc.fetch('till', 'add', { a: 1, b: 2 }), rpc.batch([['till', 'add', { a: 3, b: 4 }]])];
  way.mend();
  const [sum, [batch]] = await Promise.all(waits);
  assert.deepEqual([sum, batch.value], [3, 7]);
});

test('a gateway that is not there', async () => {
  const way = await wire(url);
  way.close();
  const pauses = { first: 20 };
  await rejects(connect({ url: way.url, WebSocket, timeout: 200, pauses }), { kind: 'unavailable', outcome: 'not_sent' });
  const rpc = await connect({ url: way.url, transport: 'http' });
  await rejects(rpc.fetch('till', 'echo'), { kind: 'unavailable', outcome: 'unknown' });
});

test('what cannot be meant is refused at once', async () => {
  const refused = { kind: 'invalid_request', outcome: 'not_sent' };
  const rpc = await connect({ url, transport: 'http' });
  await rejects(rpc.subscribe('till.*', () => {}, { after: 7 }), refused);
  if (!globalThis.WebSocket) await rejects(connect({ url, transport: 'websocket' }), refused);
  for (const options of Object.values(ways)) {
    const rpc = await connect(options);
    for (const topic of [null, undefined, 7, ['till.sold', 'till.paid']]) {
      await rejects(rpc.subscribe(topic, () => {}), refused);
    }
    rpc.close();
    for (const timeout of ['5s', NaN, null]) await rejects(connect({ ...options, timeout }), refused);
    await rejects(connect({ ...options, token: { text: 'abc' } }), refused);
  }
});

test('what is refused over HTTP without an envelope has the code of its kind', async () => {
  const rpc = await connect({ url, transport: 'http' });
  await rejects(rpc.subscribe('secret.*', () => {}), { kind: 'access_denied', code: -32001 });
});

/** What a handler was given, to be waited for. */
function heard() {
  const all = [];
  let wake = () => {};
  return {
    all,
    take: (event) => { all.push(event); wake(); },
    async count(count) { while (all.length < count) await new Promise((resolve) => { wake = resolve; }); return all; },
  };
}

for (const [way, options] of Object.entries(ways)) {
  test(`${way}: events come to those who listen, until they do not`, async (t) => {
    const rpc = await connect({ ...options, timeout: 20_000 });
    t.after(() => rpc.close());
    const [one, all] = [heard(), heard()];
    const sold = await rpc.subscribe('till.sold', one.take);
    await rpc.subscribe('till.*', all.take);
    for (const [hook, n] of [['sold', 1], ['opened', 2], ['sold', 3]]) await till.trigger(hook, { n });
    assert.deepEqual((await all.count(3)).map(({ topic, data }) => [topic, data.n]),
      [['till.sold', 1], ['till.opened', 2], ['till.sold', 3]]);
    assert.deepEqual((await one.count(2)).map(({ data }) => data.n), [1, 3]);
    assert.equal(one.all[1].id, one.all[0].id + 1);
    await sold.unsubscribe();
    await till.trigger('sold', { n: 4 });
    await all.count(4);
    assert.equal(one.all.length, 2);
    await rejects(rpc.subscribe('secret', () => {}), { kind: 'access_denied' });
  });

  test(`${way}: after a loss events go on where they were, and gaps are told`, async (t) => {
    const wires = await wire(url);
    t.after(() => wires.close());
    const pauses = { first: 20, longest: 50 };
    const rpc = await connect({ ...options, url: wires.url, timeout: 20_000, pauses });
    t.after(() => rpc.close());
    const [events, gaps] = [heard(), heard()];
    const hook = `paid_${way}`;
    const topic = `till.${hook}`;
    await rpc.subscribe(topic, events.take, { onGap: gaps.take });
    await till.trigger(hook, { n: 1 });
    await events.count(1);
    wires.cut();
    for (const n of [2, 3]) await till.trigger(hook, { n });
    wires.mend();
    assert.deepEqual((await events.count(3)).map(({ data }) => data.n), [1, 2, 3]);
    assert.equal(gaps.all.length, 0);
    wires.cut();
    // Three are kept.
    for (const n of [4, 5, 6, 7, 8]) await till.trigger(hook, { n });
    wires.mend();
    assert.deepEqual((await events.count(6)).slice(3).map(({ data }) => data.n), [6, 7, 8]);
    assert.deepEqual(gaps.all, [{ topic: topic, missed: 2 }]);
  });
}

for (const [way, options] of Object.entries(ways)) {
  test(`${way}: nothing remembered, and no limit of time`, async (t) => {
    const rpc = await connect({ ...options, timeout: Infinity });
    t.after(() => rpc.close());
    for (const timeout of [Infinity, 1e21, Number.MAX_SAFE_INTEGER, 2 ** 31 - 1, 86_400_001]) {
      assert.equal(await rpc.with({ timeout }).fetch('till', 'add', { a: 1, b: 2 }), 3, `${timeout}`);
    }
    const events = heard();
    // What a storage gives that holds nothing.
    await rpc.subscribe('till.first*', events.take, { after: null });
    await rpc.subscribe('till.first', events.take, { after: null });
    await till.trigger('first', { n: 1 });
    await events.count(2);
  });
}

/** A token of ada's that is good for so many seconds. */
function adas(seconds) {
  const text = (json) => Buffer.from(JSON.stringify(json)).toString('base64url');
  const now = Math.floor(Date.now() / 1000);
  const claims = { sub: 'ada', iss: 'https://issuer.example/', aud: 'genkan', exp: now + seconds };
  const signed = `${text({ alg: 'HS256' })}.${text(claims)}`;
  return `${signed}.${createHmac('sha256', process.env.GUARDED_SECRET).update(signed).digest('base64url')}`;
}

test('over a WebSocket, a token tells who calls', async (t) => {
  const guarded = { url: process.env.GUARDED_URL, WebSocket, timeout: 20_000 };
  const shop = await module(process.env.GUARDED_HUB, 'till', { echo: (given) => given });
  t.after(() => shop.close());
  const open = async (token) => {
    const rpc = await connect({ ...guarded, token });
    t.after(() => rpc.close());
    return rpc;
  };

  await t.test('from the first call on, and through a lost connection', async () => {
    const wires = await wire(guarded.url);
    t.after(() => wires.close());
    let asked = 0;
    const pauses = { first: 20, longest: 50 };
    const rpc = await connect({ ...guarded, url: wires.url, pauses, token: async () => (asked += 1, adas(3600)) });
    t.after(() => rpc.close());
    assert.deepEqual(await rpc.fetch('till', 'echo', { a: 1 }), { a: 1 });
    const events = heard();
    await rpc.subscribe('till.sold', events.take);
    await shop.trigger('sold', { n: 1 });
    await events.count(1);
    wires.cut();
    await shop.trigger('sold', { n: 2 });
    wires.mend();
    assert.deepEqual((await events.count(2)).map(({ data }) => data.n), [1, 2]);
    assert.deepEqual(await rpc.fetch('till', 'echo', { a: 2 }), { a: 2 });
    assert.equal(asked, 2, 'once for each connection');
  });

  await t.test('and one that ends is renewed before', async () => {
    let renewed;
    const again = new Promise((resolve) => { renewed = resolve; });
    const tokens = [() => adas(3), () => (renewed(), adas(3600))];
    const rpc = await open(() => tokens.shift()());
    const events = heard();
    const errors = heard();
    await rpc.subscribe('till.renewed', events.take, { onError: errors.take });
    await again;
    await shop.trigger('renewed', { n: 1 });
    await events.count(1);
    assert.equal(errors.all.length, 0);
  });

  await t.test('and is asked for no more behind the end, by whichever hand', async () => {
    let asked = 0;
    const rpc = await open(() => (asked += 1, adas(2)));
    rpc.with({ timeout: 9000 }).close();
    // It would have been renewed by then.
    await new Promise((resolve) => setTimeout(resolve, 2_500));
    assert.equal(asked, 1);
  });

  await t.test('and one that could not be renewed is when a call is refused', async () => {
    let asked = 0;
    const rpc = await open(async () => {
      if (++asked === 2) throw new Error('offline');
      return adas(asked === 1 ? 2 : 3600);
    });
    while (asked < 3) {
      const [one, two] = await Promise.all([
        rpc.fetch('till', 'echo', { a: 1 }),
        rpc.with({ timeout: 9000 }).batch([['till', 'echo', { b: 1 }], ['nobody', 'x'], ['till', 'echo', { b: 2 }]]),
      ]);
      assert.deepEqual(one, { a: 1 });
      assert.deepEqual(two.map(({ status, value }) => value ?? status), [{ b: 1 }, 'rejected', { b: 2 }]);
      await new Promise((resolve) => { setTimeout(resolve, 20); });
    }
    assert.deepEqual(await rpc.fetch('till', 'echo', { a: 2 }), { a: 2 });
    assert.equal(asked, 3, 'once for all that was refused');
  });

  for (const way of Object.values({ websocket: {}, http: { transport: 'http' } })) {
    await t.test(`one that is not renewed ends what is heard: ${way.transport ?? 'websocket'}`, async () => {
      let isOut = false;
      const token = () => { if (isOut) throw new Error('signed out'); return adas(2); };
      const rpc = await connect({ ...guarded, ...way, pauses: { first: 20, longest: 50 }, token });
      t.after(() => rpc.close());
      const errors = heard();
      await rpc.subscribe('till.sold', () => {}, { onError: errors.take });
      isOut = true;
      const [error] = await errors.count(1);
      assert.match(error.message, /signed out/);
      await assert.rejects(rpc.fetch('till', 'echo'), way.transport ? /signed out/ : { kind: 'access_denied' });
    });

    await t.test(`a text that is none is told: ${way.transport ?? 'websocket'}`, async () => {
      const rpc = connect({ ...guarded, ...way, token: () => undefined });
      await rejects(rpc.then((rpc) => rpc.fetch('till', 'echo')), { kind: 'access_denied', outcome: 'not_sent' });
    });
  }

  await t.test('a wrong one is refused at once, and none is let in as nobody', async () => {
    await rejects(connect({ ...guarded, token: () => 'wrong' }), { kind: 'access_denied', outcome: 'not_sent' });
    await assert.rejects(connect({ ...guarded, token: () => { throw new Error('signed out'); } }), /signed out/);
    const nobody = await open(undefined);
    await rejects(nobody.fetch('till', 'echo'), { kind: 'access_denied' });
  });

  await t.test('a gateway that asks nobody takes it', async () => {
    const rpc = await connect({ url, WebSocket, token: () => 'any' });
    t.after(() => rpc.close());
    assert.equal(await rpc.fetch('till', 'add', { a: 1, b: 2 }), 3);
  });
});

test('whom the gateway cannot take at once when all come back listens later', async (t) => {
  const wires = await wire(process.env.LIMITED_URL);
  const shop = await module(process.env.LIMITED_HUB, 'till', {});
  const rpc = await connect({ ...ways.websocket, url: wires.url, pauses: { first: 20, longest: 50 } });
  t.after(() => { rpc.close(); wires.close(); shop.close(); });
  const [events, errors] = [heard(), heard()];
  const hooks = ['one', 'two', 'three'];
  for (const hook of hooks) await rpc.subscribe(`till.${hook}`, events.take, { onError: errors.take });
  for (const hook of hooks) await shop.trigger(hook, { n: 1 });
  await events.count(3);
  wires.cut();
  wires.mend();
  // Of those who listen again, some are refused at first.
  for (const hook of hooks) await shop.trigger(hook, { n: 2 });
  await events.count(6);
  const again = events.all.slice(3).map(({ topic, data }) => `${topic} ${data.n}`);
  assert.deepEqual(again.sort(), hooks.map((hook) => `till.${hook} 2`).sort());
  assert.deepEqual(errors.all, []);
});

test('topics that nobody may listen to any more end, and no others', async (t) => {
  const listening = [];
  for (const options of Object.values(ways)) {
    const rpc = await connect({ ...options, pauses: { first: 20, longest: 50 } });
    t.after(() => rpc.close());
    const [events, errors, others] = [heard(), heard(), heard()];
    await rpc.subscribe('fleeting.*', () => {}, { onError: errors.take });
    await rpc.subscribe('till.lasting', events.take, { onError: others.take });
    listening.push({ events, errors, others });
  }
  const config = process.env.GENKAN_CONFIG;
  // Genkan looks at it by itself.
  writeFileSync(config, readFileSync(config, 'utf8').replace(/\[\[topics\]\]\s+match = "fleeting[^[]*/, ''));
  for (const { errors } of listening) {
    const [error] = await errors.count(1);
    assert.ok(error instanceof GenkanError);
    assert.deepEqual([error.kind, error.retryable], ['access_denied', false]);
  }
  await till.trigger('lasting', { n: 1 });
  for (const { events, errors, others } of listening) {
    await events.count(1);
    assert.deepEqual([errors.all.length, others.all.length], [1, 0]);
  }
});
