// Calls over HTTP: a POST each.

import { fault, GenkanError, refused } from './error.js';
import type { Token } from './identity.js';
import { LONGEST_WAIT, within, type Limits, type Message, type Transport } from './transport.js';

/** Milliseconds. */
const MOMENT = 1000;

export class Http implements Transport {
  readonly #url: URL;
  readonly #token: Token | undefined;
  /** What ends the requests that are on their way. */
  readonly #asking = new Set<AbortController>();
  #isOver = false;

  constructor(url: URL, token: Token | undefined) {
    this.#url = url;
    this.#token = token;
  }

  async ready(): Promise<void> {}

  send(body: string, key: number | undefined, limits: Limits): Promise<Message | Message[] | undefined> {
    const headers: Record<string, string> = { 'Content-Type': 'application/json' };
    // The service need not work on a call that nobody waits for.
    if (limits.timeout < LONGEST_WAIT) headers['X-Request-Timeout'] = `${Math.ceil(limits.timeout)}ms`;
    const request = { method: 'POST', headers, body };
    // A batch is answered whole: the gateway has a moment to tell which of its calls were late.
    const patience = { ...limits, timeout: limits.timeout + (body[0] === '[' ? MOMENT : 0) };
    return this.#ask(this.#url, request, patience, new AbortController(), async (response) => {
      const text = await response.text();
      return text && JSON.parse(text);
    });
  }

  /** Opens a stream of events, at `/events` beside `/api`, which goes on until `ask` is aborted. */
  events(query: string, limits: Limits, ask: AbortController): Promise<ReadableStream<Uint8Array>> {
    const url = new URL(this.#url);
    url.pathname = url.pathname.replace(/(\/api)?\/?$/, '/events');
    url.search = query;
    return this.#ask(url, { headers: {} }, limits, ask, async ({ body }) => body!);
  }

  /** Makes a request, and reads its answer within the limits. */
  #ask<T>(
    url: URL,
    init: { method?: string; headers: Record<string, string>; body?: string },
    limits: Limits,
    ask: AbortController,
    read: (response: Response) => Promise<T>,
  ): Promise<T> {
    let isSent = false;
    const late = () => fault('timeout', `no answer within ${limits.timeout} ms`, isSent);
    return within(limits, late, async (stop) => {
      if (this.#isOver) throw fault('unavailable', 'the client is closed', false);
      if (this.#token) init.headers.Authorization = `Bearer ${await this.#token()}`;
      stop.throwIfAborted();
      // Whoever only asks to listen has changed nothing by it.
      isSent = !!init.body;
      stop.addEventListener('abort', () => ask.abort());
      this.#asking.add(ask);
      try {
        const response = await fetch(url, { ...init, signal: ask.signal });
        return response.ok ? await read(response) : refused(response, await response.text());
      } catch (error) {
        if (error instanceof GenkanError) throw error;
        const why = this.#isOver ? 'the client was closed' : String((error as Error).message);
        throw fault('unavailable', `${this.#url}: ${why}`, isSent);
      } finally {
        this.#asking.delete(ask);
      }
    });
  }

  close(): void {
    this.#isOver = true;
    for (const ask of this.#asking) ask.abort();
  }
}
