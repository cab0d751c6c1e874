// The pizza page: what is called when something is pressed, and what is listened to.

import { connect } from './genkan-client.js';
import { show, waiting } from './answer.js';
import { Feed } from './feed.js';
import { watched } from './link.js';

const url = document.querySelector('meta[name=genkan]').content;
const feed = new Feed(document.querySelector('.feed'));

/** Which world an event is of, by the first word of its topic: [[topics]] in examples/demo/genkan.toml. */
const WORLDS = { orders: 'nameko', mail: 'nats', rust: 'hub' };

/** Makes the call that a button is for; gives what came of it. */
const calls = {
  'orders.create': (rpc, { size }) => rpc.fetch('orders', 'create', { id: number(), size }),
  'mailer.send': (rpc, { to, text }) => rpc.fetch('mailer', 'send', { to, text }),
  'rust.greet': (rpc, { name }) => rpc.fetch('rust', 'greet', { name }),
  'rust.order': (rpc) => rpc.fetch('rust', 'order', { id: number(), size: 'M' }),
  'order.create': (rpc) => rpc.fetch('order', 'create', { id: number(), size: 'M' }),
  batch: (rpc) => rpc.batch([['orders', 'total'], ['mailer', 'outbox'], ['rust', 'greet', { name: 'all' }]]),
};

/** An order's number. */
function number() {
  return 1000 + Math.floor(Math.random() * 9000);
}

function mail({ id, size }) {
  return `Your pizza (${size}, order ${id}) is ready`;
}

/** The client, as soon as Genkan is there: until then it is tried again and again. */
async function open() {
  const WebSocket = watched(url, document.querySelector('#link'), feed);
  for (;;) {
    try {
      return await connect({ url, WebSocket });
    } catch (error) {
      console.info(error.message);
    }
  }
}

async function call(rpc, form, button) {
  const { call: name, way } = button.dataset.call ? button.dataset : form.dataset;
  const place = form.closest('.card').querySelector('.answer');
  const ended = waiting(place);
  const params = Object.fromEntries(new FormData(form));
  const begun = performance.now();
  const [answer] = await Promise.allSettled([calls[name](rpc, params)]);
  const milliseconds = performance.now() - begun;
  if (ended()) show(place, { name, way: way.split(', '), milliseconds, answer });
  // What the mail says, as long as nobody has written into it.
  if (name === 'orders.create' && answer.value) document.forms.mail.text.defaultValue = mail(answer.value);
}

const rpc = await open();
for (const form of document.forms) {
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    call(rpc, form, event.submitter ?? form.querySelector('button'));
  });
  for (const button of form.querySelectorAll('button')) button.disabled = false;
}
for (const [word, world] of Object.entries(WORLDS)) {
  const told = { onGap: (gap) => feed.missed(gap), onLagged: (gap) => feed.missed(gap) };
  rpc.subscribe(`${word}.*`, (event) => feed.add(world, event), {
    ...told,
    onError: (error) => feed.note(`No more events of ${word}.*: ${error.message}`),
  }).catch((error) => feed.note(`No events of ${word}.*: ${error.message}`));
}
