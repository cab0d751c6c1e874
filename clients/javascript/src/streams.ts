// Who listens to which topics over HTTP: a stream of Server-Sent Events for each, which is opened anew when it is
// lost (docs/events.md). By `fetch`, since an `EventSource` sends no token, tells nobody why it was refused, and is
// missing in Node.

import { fault, PASSING } from './error.js';
import type { Http } from './http.js';
import { tell, type Listener, type Listening, type Subscription } from './subscriptions.js';
import { pause, type Limits, type Pauses } from './transport.js';

/** A gateway that says nothing for so long is gone: it says something every 15 seconds. */
const SILENCE = 45_000;

type Body = ReadableStream<Uint8Array>;

export class Streams implements Listening {
  readonly #http: Http;
  readonly #limits: Limits;
  readonly #pauses: Pauses;
  readonly #streams = new Set<Stream>();

  /** `limits` are those of a stream's beginning. */
  constructor(http: Http, limits: Limits, pauses: Pauses) {
    this.#http = http;
    this.#limits = limits;
    this.#pauses = pauses;
  }

  async add(listener: Listener): Promise<Subscription> {
    const { topic, options: { after } } = listener;
    // A stream of several topics counts through all of them.
    if (after != null && /[*?]/.test(topic)) {
      throw fault('invalid_request', 'over HTTP `after` is for one topic: a glob has no ids', false);
    }
    const stream = new Stream(listener, this.#pauses, (last, ask) => {
      const from = last == null ? '' : `&last_event_id=${last}`;
      return this.#http.events(`topic=${encodeURIComponent(topic)}${from}`, this.#limits, ask);
    });
    this.#streams.add(stream);
    const unsubscribe = async () => {
      this.#streams.delete(stream);
      stream.stop();
    };
    try {
      await stream.start();
    } catch (error) {
      this.#streams.delete(stream);
      throw error;
    }
    return { unsubscribe };
  }

  close(): void {
    for (const stream of this.#streams) stream.stop();
    this.#streams.clear();
  }
}

/** What one listener hears. */
class Stream {
  readonly #listener: Listener;
  readonly #pauses: Pauses;
  readonly #open: (last: unknown, ask: AbortController) => Promise<Body>;
  /** The id behind which it goes on. */
  #last: unknown;
  #ask = new AbortController();
  #isOver = false;
  #wake = () => {};

  constructor(listener: Listener, pauses: Pauses, open: (last: unknown, ask: AbortController) => Promise<Body>) {
    const { topic, options: { after } } = listener;
    this.#listener = listener;
    this.#pauses = pauses;
    this.#open = open;
    this.#last = typeof after === 'object' ? after?.[topic] : after;
  }

  /** Resolves when it has begun. */
  async start(): Promise<void> {
    this.#go(await this.#open(this.#last, this.#ask));
  }

  stop(): void {
    this.#isOver = true;
    this.#ask.abort();
    this.#wake();
  }

  async #go(first: Body): Promise<void> {
    let body: Body | undefined = first;
    let isEnded = false;
    for (let attempts = 0; !this.#isOver; attempts++) {
      try {
        body ??= await this.#open(this.#last, this.#ask = new AbortController());
        isEnded = false;
        for await (const { retry, id, event = 'event', data } of messages(body)) {
          // It has not only greeted us: the next pause is a short one.
          if (data || !retry) attempts = 0;
          this.#last = id ?? this.#last;
          isEnded = event === 'ended';
          if (data && !this.#isOver) tell(this.#listener, event, JSON.parse(data));
        }
      } catch (error: any) {
        // What the token threw has no kind: there is no new one, where the old one has ended.
        if (error.kind ? !PASSING.test(error.kind) : isEnded) return this.#listener.options.onError?.(error);
      }
      body = undefined;
      if (!this.#isOver) {
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, pause(this.#pauses, attempts));
          this.#wake = () => { clearTimeout(timer); resolve(); };
        });
      }
    }
  }
}

/** What a stream holds, as Genkan writes it (the HTML standard, 9.2.6). */
async function* messages(body: Body): AsyncGenerator<Record<string, string>> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let text = '';
  let timer: ReturnType<typeof setTimeout> | undefined;
  try {
    for (let isFirst = true; ; isFirst = false) {
      timer = setTimeout(() => reader.cancel(), SILENCE);
      const { done, value } = await reader.read();
      clearTimeout(timer);
      if (done) return;
      // A heartbeat is a part of what comes next, and a sign of life nevertheless.
      if (!isFirst) yield {};
      const parts = (text + decoder.decode(value, { stream: true })).split('\n\n');
      text = parts.pop()!;
      for (const part of parts) yield Object.fromEntries(part.split('\n').map((line) => line.split(/: (.*)/s)));
    }
  } finally {
    clearTimeout(timer);
    reader.cancel().catch(() => {});
  }
}
