// Who listens to which topics over a WebSocket, and where each topic goes on after it was lost: docs/events.md.

import { GenkanError } from './error.js';
import type { Message } from './transport.js';

export interface GenkanEvent<Data = any> {
  topic: string;
  /** Counts up in each topic. */
  id: number;
  data: Data;
  /** When Genkan got it: RFC 3339. */
  time: string;
}

/** Events that are not to be had. */
export interface Gap {
  topic: string;
  /** How many; `null` where nobody knows. */
  missed: number | null;
}

export interface SubscribeOptions {
  /** Behind which event to begin: an id, or an object of ids by topics. */
  after?: number | Record<string, number> | null;
  /** Called when events are gone that came while the connection was away. */
  onGap?: (gap: Gap) => void;
  /** Called when this client has been too slow. */
  onLagged?: (gap: Gap) => void;
  /** Called when it was refused later on: after a reconnect, or since who may listen has changed. Nothing is heard any more then. */
  onError?: (error: GenkanError) => void;
}

export interface Subscription {
  unsubscribe(): Promise<void>;
}

/** Somebody who wants to listen. */
export interface Listener {
  topic: string;
  handler: (event: GenkanEvent<any>) => void;
  options: SubscribeOptions;
}

/** A way by which events come. */
export interface Listening {
  add(listener: Listener): Promise<Subscription>;
  /** Nobody hears anything any more. */
  close(): void;
}

/** Gives a listener what was said of its topic. */
export function tell({ handler, options }: Listener, kind: string, said: any): void {
  const told = { event: handler, gap: options.onGap, lagged: options.onLagged }[kind];
  // A handler that throws is its program's mistake, and no other's.
  try {
    told?.(said);
  } catch (error) {
    reportError(error);
  }
}

interface Entry extends Listener {
  matches: RegExp;
  /** Whether the gateway has ever said yes. */
  isOn?: boolean;
}

/** Makes a call to one of Genkan's own methods. */
type Ask = (method: string, params: object) => Promise<unknown>;

/** How many topics' last ids are kept. */
const MOST_TOPICS = 1000;
const SUBSCRIBE = 'genkan.subscribe';

export class Subscriptions implements Listening {
  readonly #ask: Ask;
  readonly #listeners = new Set<Entry>();
  /** The last id of each topic that was heard. */
  readonly #last = new Map<string, number>();

  constructor(ask: Ask) {
    this.#ask = ask;
  }

  async add(listener: Listener): Promise<Subscription> {
    const { topic, options } = listener;
    const entry: Entry = { ...listener, matches: glob(topic) };
    this.#listeners.add(entry);
    try {
      await this.#ask(SUBSCRIBE, { topics: [topic], after: options.after });
      entry.isOn = true;
    } catch (error) {
      this.#listeners.delete(entry);
      throw error;
    }
    return { unsubscribe: () => this.#remove(entry) };
  }

  async #remove(listener: Entry): Promise<void> {
    if (!this.#listeners.delete(listener)) return;
    const others = [...this.#listeners];
    for (const topic of this.#last.keys()) {
      if (!others.some(({ matches }) => matches.test(topic))) this.#last.delete(topic);
    }
    if (others.some(({ topic }) => topic === listener.topic)) return;
    await this.#ask('genkan.unsubscribe', { topics: [listener.topic] });
  }

  close(): void {
    this.#listeners.clear();
  }

  /** The gateway tells nobody here anything any more, or nothing of these topics. */
  end(error: GenkanError, topics?: string[]): void {
    for (const listener of [...this.#listeners]) {
      if (topics && !topics.includes(listener.topic)) continue;
      this.#listeners.delete(listener);
      listener.options.onError?.(error);
    }
  }

  /** The gateway is there again, and knows nothing of what was listened to. */
  resume(): void {
    for (const listener of this.#listeners) {
      const { topic, matches, options, isOn } = listener;
      if (!isOn) continue; // Its own call is on its way.
      const heard = [...this.#last].filter(([name]) => matches.test(name));
      const after = heard.length ? { ...(options.after as object), ...Object.fromEntries(heard) } : options.after;
      this.#ask(SUBSCRIBE, { topics: [topic], after }).catch((error) => {
        if (error.kind === 'unavailable') return; // Lost again, it is resumed again.
        this.#listeners.delete(listener);
        options.onError?.(error);
      });
    }
  }

  hear({ method, params }: Message): void {
    const { topic, id } = params;
    if (method === 'event') {
      this.#last.delete(topic);
      this.#last.set(topic, id);
      if (this.#last.size > MOST_TOPICS) this.#last.delete(this.#last.keys().next().value!);
    }
    for (const listener of this.#listeners) {
      if (listener.matches.test(topic)) tell(listener, method!, params);
    }
  }
}

/** Genkan's globs: `*` is any run of characters, `?` is one. */
function glob(topic: string): RegExp {
  const text = topic.replace(/[.+^${}()|[\]\\]/g, '\\$&').replace(/\*/g, '.*').replace(/\?/g, '.');
  return new RegExp(`^${text}$`, 's');
}

/** As a browser does with what an event's handler throws; Node 20 has no function for it. */
function reportError(error: unknown): void {
  setTimeout(() => { throw error; });
}
