// What has happened: events as they come, the newest first, and what the connection went through.

import { element, inLine } from './dom.js';

const NAMES = { nameko: 'Nameko', nats: 'NATS', hub: 'Hub' };
/** How many entries stay on the page. */
const MOST = 200;

export class Feed {
  #list;
  #empty;
  #place;
  #counts = {};

  constructor(place) {
    this.#place = place;
    this.#list = place.querySelector('ol');
    this.#empty = place.querySelector('.empty');
    place.querySelector('#clear').addEventListener('click', () => this.#clear());
    for (const button of place.querySelectorAll('.worlds button')) {
      button.addEventListener('click', () => {
        const isShown = button.ariaPressed !== 'true';
        button.ariaPressed = String(isShown);
        place.classList.toggle(`without-${button.dataset.world}`, !isShown);
      });
    }
  }

  /** An event of a world. */
  add(world, { topic, id, data, time }) {
    const entry = element('li', 'event',
      element('p', 'topic', element('b', '', topic), element('span', 'source', NAMES[world]), element('time', '', clock(new Date(time)))),
      element('code', 'data', inLine(data)));
    entry.dataset.world = world;
    entry.title = `${topic}, event ${id}`;
    this.#counts[world] = (this.#counts[world] ?? 0) + 1;
    this.#place.querySelector(`.worlds [data-world=${world}] b`).textContent = this.#counts[world];
    this.#insert(entry);
  }

  /** Events that are not to be had. */
  missed({ topic, missed }) {
    this.note(`${missed ?? 'Some'} event${missed === 1 ? ' was' : 's were'} missed of ${topic}`);
  }

  /** Something about the feed itself. */
  note(text) {
    this.#insert(element('li', 'note', element('span', '', text), element('time', '', clock(new Date()))));
  }

  #insert(entry) {
    this.#empty.hidden = true;
    this.#list.prepend(entry);
    while (this.#list.children.length > MOST) this.#list.lastChild.remove();
  }

  #clear() {
    this.#list.replaceChildren();
    this.#empty.hidden = false;
  }
}

/** 09:41:07.123, as it is here. */
function clock(date) {
  const milliseconds = String(date.getMilliseconds()).padStart(3, '0');
  return `${date.toLocaleTimeString('en-GB')}.${milliseconds}`;
}
