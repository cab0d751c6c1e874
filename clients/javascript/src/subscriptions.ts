// Who listens to which topics over a WebSocket, and where each topic goes on after it was lost: docs/events.md.

import { PASSING, type GenkanError } from './error.js';
import { pause, type Message, type Pauses } from './transport.js';

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
  /** The last attempt to listen again, and what waits for the next one. */
  turn?: object;
  timer?: ReturnType<typeof setTimeout>;
}

/** Makes a call to one of Genkan's own methods. */
type Ask = (method: string, params: object) => Promise<unknown>;

/** How many topics' last ids are kept. */
const MOST_TOPICS = 1000;
const SUBSCRIBE = 'genkan.subscribe';

export class Subscriptions implements Listening {
  readonly #ask: Ask;
  readonly #pauses: Pauses;
  readonly #listeners = new Set<Entry>();
  /** The last id of each topic that was heard. */
  readonly #last = new Map<string, number>();

  constructor(ask: Ask, pauses: Pauses) {
    this.#ask = ask;
    this.#pauses = pauses;
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
    if (!this.#drop(listener)) return;
    const others = [...this.#listeners];
    for (const topic of this.#last.keys()) {
      if (!others.some(({ matches }) => matches.test(topic))) this.#last.delete(topic);
    }
    if (others.some(({ topic }) => topic === listener.topic)) return;
    await this.#ask('genkan.unsubscribe', { topics: [listener.topic] });
  }

  #drop(listener: Entry): boolean {
    clearTimeout(listener.timer);
    return this.#listeners.delete(listener);
  }

  close(): void {
    for (const listener of this.#listeners) this.#drop(listener);
  }

  /** The gateway tells nobody here anything any more, or nothing of these topics. */
  end(error: GenkanError, topics?: string[]): void {
    for (const listener of [...this.#listeners]) {
      if (topics && !topics.includes(listener.topic)) continue;
      this.#drop(listener);
      listener.options.onError?.(error);
    }
  }

  /** The gateway is there again, and knows nothing of what was listened to. */
  resume(): void {
    for (const listener of this.#listeners) {
      if (listener.isOn) this.#resume(listener, 0); // Else its own call is on its way.
    }
  }

  /** Listens again behind what was heard last. A gateway that many come back to may take some of them later alone. */
  #resume(listener: Entry, attempts: number): void {
    clearTimeout(listener.timer);
    const turn = listener.turn = {};
    const { topic, matches, options } = listener;
    const heard = [...this.#last].filter(([name]) => matches.test(name));
    const after = heard.length ? { ...(options.after as object), ...Object.fromEntries(heard) } : options.after;
    this.#ask(SUBSCRIBE, { topics: [topic], after }).catch((error) => {
      // The connection may have been lost meanwhile, and have come back.
      if (!this.#listeners.has(listener) || listener.turn !== turn) return;
      if (PASSING.test(error.kind)) {
        listener.timer = setTimeout(() => this.#resume(listener, attempts + 1), pause(this.#pauses, attempts));
        return;
      }
      this.#drop(listener);
      options.onError?.(error);
    });
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
