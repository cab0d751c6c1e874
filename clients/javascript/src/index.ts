// The client: what a program sees of it.

import { fault, GenkanError } from './error.js';
import { Http } from './http.js';
import { Identity, type Token } from './identity.js';
import { Socket, type WebSocketLike } from './socket.js';
import { Streams } from './streams.js';
import {
  Subscriptions, type GenkanEvent, type Listening, type SubscribeOptions, type Subscription,
} from './subscriptions.js';
import { within, type Limits, type Message, type Pauses, type Transport } from './transport.js';

export { GenkanError };
export type { Outcome } from './error.js';
export type { Gap, GenkanEvent, SubscribeOptions, Subscription } from './subscriptions.js';
export type { Pauses, Token, WebSocketLike };

export interface Options {
  /** The gateway's `/api`; `/api` of the page's own host, or of 127.0.0.1:8080 in Node. */
  url?: string;
  /** How long a call may take, in milliseconds: 5000. */
  timeout?: number;
  /** `websocket` where there is one; else `http`. */
  transport?: 'websocket' | 'http';
  /** The class to use, where the platform has none: that of `ws`, say. */
  WebSocket?: new (url: string) => WebSocketLike;
  /** Pauses between attempts to connect: 200 ms, and up to 10 s. */
  pauses?: Partial<Pauses>;
  /** Who calls: asked for each request over HTTP; over a WebSocket when it opens, and when the token is about to end. */
  token?: Token | string;
}

/** Limits of some calls: what is not said is as it was. */
export type CallOptions = Partial<Limits>;

/** A service, method, and params, as `fetch` takes them. */
export type Call = [service: string, method: string, ...params: unknown[]];

/** A service's methods, as they are called from here. */
export type Remote<Service> = {
  [Method in keyof Service]: Service[Method] extends (...params: infer Params) => infer Result
    ? (...params: Params) => Promise<Awaited<Result>>
    : never;
};

/** Services whose methods nobody has told. */
export type Untyped = Record<string, Record<string, (...params: any[]) => any>>;

/** Connects. Rejects where the gateway is not there within the time limit. */
export async function connect<Api extends object = Untyped>(options: Options = {}): Promise<Rpc<Api>> {
  const { timeout = 5000 } = options;
  const limits = valid({ timeout });
  const platform = options.WebSocket ?? (globalThis as { WebSocket?: Options['WebSocket'] }).WebSocket;
  const transport = options.transport ?? (platform ? 'websocket' : 'http');
  const url = new URL(options.url ?? '/api', globalThis.location?.href ?? 'http://127.0.0.1:8080');
  if (url.pathname === '/') url.pathname = '/api';
  url.protocol = url.protocol.replace(/^(http|ws)/, transport === 'http' ? 'http' : 'ws');
  const pauses = { first: 200, longest: 10_000, ...options.pauses };
  const token = giver(options.token);
  let link: Transport;
  let streams: Streams | undefined;
  if (transport === 'http') {
    const http = link = new Http(url, token);
    streams = new Streams(http, limits, pauses);
  } else {
    if (!platform) throw refuse('there is no WebSocket here: give `WebSocket`, or say `transport: "http"`');
    link = new Socket(() => new platform(url.href), pauses, timeout);
  }
  const rpc = new Rpc<Api>(link, limits, streams, pauses, token);
  try {
    await link.ready(limits);
  } catch (error) {
    rpc.close();
    if (!['unavailable', 'timeout'].includes((error as GenkanError).kind)) throw error;
    const why = (link as Partial<Socket>).refusal ?? error as Error;
    throw fault('unavailable', `${url.href} is not there: ${why.message}`, false);
  }
  return rpc;
}

/** What is asked for a token, of whatever a program has given for it. */
function giver(token: Token | string | undefined): Token | undefined {
  if (token === undefined) return;
  if (typeof token !== 'function' && typeof token !== 'string') throw refuse('`token` must be a function or a text');
  return async () => {
    const text = typeof token === 'string' ? token : await token();
    if (!text || typeof text !== 'string') throw fault('access_denied', '`token` has given no text', false);
    return text;
  };
}

function valid(limits: Limits): Limits {
  if (!(typeof limits.timeout === 'number' && limits.timeout >= 0)) throw refuse('`timeout` must be milliseconds');
  return limits;
}

function refuse(why: string): GenkanError {
  return fault('invalid_request', why, false);
}

let lastId = 0;

export class Rpc<Api extends object = Untyped> {
  readonly #link: Transport;
  readonly #limits: Limits;
  readonly #listening: Listening;
  #identity: Identity | undefined;

  /** @internal */
  constructor(link: Transport, limits: Limits, listening?: Listening, pauses?: Pauses, token?: Token) {
    this.#link = link;
    this.#limits = limits;
    this.#listening = listening ?? this.#hear(link as Socket, pauses!, token);
  }

  /**
   * Calls a method. One plain object is its named params; anything else is a list.
   */
  async fetch<Result = any>(service: string, method: string, ...params: unknown[]): Promise<Result> {
    return this.#ask(`${service}.${method}`, shape(params)) as Promise<Result>;
  }

  /** Tells a service something: nothing comes back, and it need not have run. */
  async notify(service: string, method: string, ...params: unknown[]): Promise<void> {
    const { idempotencyKey } = this.#limits;
    await this.#link.send(request(`${service}.${method}`, shape(params), undefined, idempotencyKey), undefined, this.#limits);
  }

  /** Makes calls at once, over HTTP in one message. Each ends as with `Promise.allSettled`. */
  async batch(calls: Call[]): Promise<PromiseSettledResult<any>[]> {
    const { idempotencyKey } = this.#limits;
    const key = (at: number) => idempotencyKey && `${idempotencyKey}.${at + 1}`;
    if (!(this.#link instanceof Http)) {
      return Promise.allSettled(calls.map((call, at) => this.with({ idempotencyKey: key(at) }).fetch(...call)));
    }
    const requests: string[] = [];
    const ends = calls.map(async ([service, method, ...params], at) => {
      const id = ++lastId;
      requests.push(request(`${service}.${method}`, shape(params), id, key(at)));
      await 0; // All are written by then.
      const answers = [await sent].flat();
      // A fault without an id is about all of them.
      return result(answers.find((answer) => answer?.id === id) ?? answers.find((answer) => answer?.id === null));
    });
    const sent = requests.length ? this.#link.send(`[${requests}]`, 1, this.#limits) : undefined;
    return Promise.allSettled(ends);
  }

  /** A service whose methods are called by their names. */
  service<Name extends keyof Api & string>(name: Name): Remote<Api[Name]> {
    const method = (object: any, method: string | symbol) =>
      // Else whoever awaits it, or makes a text of it, would call it.
      method in object || typeof method === 'symbol' || /^(then|toJSON)$/.test(method)
        ? object[method]
        : (...params: unknown[]) => this.fetch(name, method, ...params);
    return new Proxy({}, { get: method }) as Remote<Api[Name]>;
  }

  /** The same client with other limits: `rpc.with({ signal }).fetch(…)`. */
  with(options: CallOptions): Rpc<Api> {
    const rpc = new Rpc<Api>(this.#link, valid({ ...this.#limits, ...options }), this.#listening);
    rpc.#identity = this.#identity;
    return rpc;
  }

  /** Listens to a topic, or to those that a glob names. Goes on when the connection was lost. */
  async subscribe<Data = any>(
    topic: string,
    handler: (event: GenkanEvent<Data>) => void,
    options: SubscribeOptions = {},
  ): Promise<Subscription> {
    if (typeof topic !== 'string') throw refuse('a topic is a text: subscribe to each of several');
    return this.#listening.add({ topic, handler, options });
  }

  /** Ends it: calls that wait are rejected. */
  close(): void {
    this.#identity?.close();
    this.#listening.close();
    this.#link.close();
  }

  /** Over a WebSocket, events come among the answers. */
  #hear(socket: Socket, pauses: Pauses, token: Token | undefined): Listening {
    const heard = new Subscriptions((method, params) => this.#ask(method, params), pauses);
    const identity = token && new Identity(token, async (method, params) => {
      const id = ++lastId;
      return result(await socket.send(request(method, params, id), id, this.#limits, true));
    }, pauses);
    this.#identity = identity;
    if (identity) {
      socket.greet = () => identity.tell();
      socket.told = () => identity.told;
      socket.change = (refused) => identity.change(refused);
    }
    socket.onready = () => heard.resume();
    socket.onnotification = (message) => {
      if (message.method !== 'ended') return heard.hear(message);
      const { reason, topics } = message.params;
      if (topics) return heard.end(fault('access_denied', reason, false), topics);
      // The token has, and with it what was listened to.
      const told = identity?.renew() ?? Promise.reject(fault('unavailable', reason, false));
      told.then(() => heard.resume(), (error) => heard.end(error));
    };
    return heard;
  }

  async #ask(method: string, params: unknown): Promise<unknown> {
    const told = this.#link.told?.();
    try {
      return await this.#askOnce(method, params);
    } catch (error) {
      if (!isRefused(error) || !await this.#isKnownAnew(told)) throw error;
      return this.#askOnce(method, params);
    }
  }

  async #askOnce(method: string, params: unknown): Promise<unknown> {
    const id = ++lastId;
    const { idempotencyKey } = this.#limits;
    return result(await this.#link.send(request(method, params, id, idempotencyKey), id, this.#limits) as Message);
  }

  /** Whether the gateway has been told another token since, as where the one it knew was replaced. */
  async #isKnownAnew(told: string | undefined): Promise<boolean> {
    const change = async () => this.#link.change?.(told) ?? false;
    return within(this.#limits, () => fault('timeout', '`token` has given none', false), change).catch(() => false);
  }
}

function request(method: string, params: unknown, id?: number, idempotencyKey?: string): string {
  const meta = idempotencyKey && { idempotencyKey };
  try {
    return JSON.stringify({ jsonrpc: '2.0', method, params, id, meta });
  } catch (error) {
    throw fault('invalid_params', `${method}: ${(error as Error).message}`, false);
  }
}

/** Whether it is for who calls that a call has not run. */
function isRefused(error: unknown): boolean {
  const { kind, outcome } = error as GenkanError;
  return kind === 'access_denied' && outcome === 'not_sent';
}

function result(answer: Message | undefined): unknown {
  if (!answer) throw fault('internal', 'the gateway has not answered it', true);
  if (answer.error) throw new GenkanError(answer.error);
  return answer.result;
}

/** One plain object is params by name. */
function shape(params: unknown[]): unknown {
  const [first] = params;
  const named = params.length === 1 && Object.prototype.toString.call(first) === '[object Object]';
  return named ? first : params.length ? params : undefined;
}
