// What came of a call, in its card: the way it went, how long it took, and the result or the fault.

import { element, inLine } from './dom.js';

/** What each way goes through, and the world that it is shown in the colour of. */
const STATIONS = { RabbitMQ: 'nameko', Python: 'nameko', NATS: 'nats', JavaScript: 'nats', Rust: 'hub' };

/** What `outcome` means: docs/faults.md. */
const OUTCOMES = {
  not_sent: 'It has reached no service.',
  rejected: 'The service refused it: it has not run.',
  executed: 'It ran, and this is what came of it.',
  unknown: 'It may have run.',
};

/** Shows that a call is on its way; gives a function that tells whether it still is the last one. */
export function waiting(place) {
  const mine = place.serial = (place.serial ?? 0) + 1;
  place.ariaBusy = 'true';
  return () => place.serial === mine;
}

export function show(place, { name, way, milliseconds, answer: { value, reason } }) {
  const head = element('p', 'head', element('code', '', name), ` ${reason ? 'failed' : 'answered'} in `,
    element('b', '', `${milliseconds.toFixed(1)} ms`));
  place.ariaBusy = 'false';
  place.replaceChildren(head, route(way, reason?.outcome === 'not_sent'), ...(reason ? fault(reason) : [result(value)]));
}

/** The way, of which a call that was not sent has come no further than to Genkan. */
function route(way, isStopped) {
  const stations = ['This page', ...way].map((name, at) => {
    const station = element('li', isStopped && at > 1 ? 'unreached' : '', name);
    if (STATIONS[name]) station.dataset.world = STATIONS[name];
    return station;
  });
  const list = element('ol', 'way', ...stations);
  list.ariaLabel = isStopped ? 'The way it was to go' : 'The way it went';
  return list;
}

/** A result; of a batch, each call's. */
function result(value) {
  const isBatch = Array.isArray(value) && value[0]?.status;
  return isBatch
    ? element('div', 'batch', ...value.flatMap((one) => (one.reason ? fault(one.reason) : [result(one.value)])))
    : element('pre', '', inLine(value));
}

function fault({ kind, outcome, retryable, message }) {
  const again = retryable ? ' It is safe to try again.' : '';
  const tags = [['kind', kind], ['outcome', outcome]].map(([name, word]) => {
    const tag = element('span', `tag ${name}`, word);
    tag.title = name;
    return tag;
  });
  return [
    element('p', 'fault', ...tags, element('span', 'message', message)),
    element('p', 'means', `${OUTCOMES[outcome] ?? ''}${again}`),
  ];
}
