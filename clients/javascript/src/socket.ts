// Calls over one WebSocket, which is opened anew when it is lost.

import { fault, PASSING } from './error.js';
import { LONGEST_WAIT, pause, within, type Limits, type Message, type Pauses, type Transport } from './transport.js';

/** What is used of a WebSocket; the package `ws` has it too. */
export interface WebSocketLike {
  readyState: number;
  onopen: ((event: any) => void) | null;
  onmessage: ((event: any) => void) | null;
  onerror: ((event: any) => void) | null;
  onclose: ((event: any) => void) | null;
  send(text: string): void;
  close(code?: number): void;
}

/** A call that waits for its answer, or to be sent. */
interface Waiting {
  text: string;
  isSent: boolean;
  isAnswered: boolean;
  resolve(answer?: Message): void;
  reject(error: Error): void;
}

/** How many calls wait at once. Further ones are refused, unsent. */
const MOST_WAITING = 10_000;
const OPEN = 1;
/** The gateway has closed the connection, because of a message over its `max_body`. */
const TOO_LARGE = 1009;

export class Socket implements Transport {
  /** Called when the gateway is there, for the first time and again, before anything else is sent. */
  greet = async () => {};
  /** By what the gateway knows who is there. */
  told = (): string | undefined => undefined;
  /** Called when it does not take that any more: whether it has been told another. */
  change = async (_refused: string | undefined) => false;
  /** Called when it knows who is there. */
  onready = () => {};
  /** Called with what the gateway says unasked. */
  onnotification = (_message: Message) => {};
  /** Why the gateway, which is there, could not let us in yet. */
  refusal: Error | undefined;
  readonly #open: () => WebSocketLike;
  readonly #pauses: Pauses;
  readonly #opening: number;
  #socket: WebSocketLike | undefined;
  /** In the order in which they were made. */
  readonly #waiting = new Map<unknown, Waiting>();
  #attempts = 0;
  #isReady = false;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #isOver = false;

  /** `opening`: how long an attempt to connect may take. */
  constructor(open: () => WebSocketLike, pauses: Pauses, opening: number) {
    this.#open = open;
    this.#pauses = pauses;
    this.#opening = opening;
    this.#connect();
  }

  /** A call that needs nothing but the connection. */
  ready(limits: Limits): Promise<unknown> {
    return this.send('', undefined, limits);
  }

  /** `isGreeting`: it goes before all others. */
  send(text: string, key: number | undefined, limits: Limits, isGreeting?: boolean): Promise<Message | undefined> {
    const waiting = { text, isSent: false, isAnswered: key !== undefined } as Waiting;
    const place = key ?? waiting;
    const late = () => fault('timeout', `no answer within ${limits.timeout} ms`, waiting.isSent);
    return within(limits, late, () => new Promise((resolve, reject) => {
      if (this.#isOver) return reject(fault('unavailable', 'the client is closed', false));
      if (this.#waiting.size >= MOST_WAITING) {
        return reject(fault('overloaded', `${MOST_WAITING} calls wait already`, false));
      }
      Object.assign(waiting, { resolve, reject });
      this.#waiting.set(place, waiting);
      if (this.#socket?.readyState === OPEN && (isGreeting || this.#isReady)) this.#write(waiting);
    })).finally(() => this.#waiting.delete(place)) as Promise<Message | undefined>;
  }

  close(): void {
    this.#isOver = true;
    clearTimeout(this.#timer);
    for (const { isSent, reject } of this.#waiting.values()) {
      reject(fault('unavailable', 'the client was closed', isSent));
    }
    this.#socket?.close(1000);
  }

  #connect(): void {
    const socket = this.#socket = this.#open();
    const timer = setTimeout(() => socket.close(), Math.min(this.#opening, LONGEST_WAIT));
    socket.onerror = () => {}; // A close follows.
    socket.onopen = () => {
      clearTimeout(timer);
      this.greet().then(() => {
        if (socket !== this.#socket || socket.readyState !== OPEN) return;
        this.#isReady = true;
        this.onready();
        for (const waiting of this.#waiting.values()) this.#write(waiting);
      }).catch((error) => {
        socket.close();
        // What was lost on the way is tried again.
        if (PASSING.test(error.kind)) return void (this.refusal = error);
        for (const { isSent, reject } of this.#waiting.values()) {
          if (!isSent) reject(error);
        }
      });
    };
    socket.onmessage = ({ data }) => {
      // It has not only let us in: the next pause is a short one.
      if (this.#isReady) this.#attempts = 0;
      const message: Message = JSON.parse(data);
      if (message.method) return this.onnotification(message);
      this.#waiting.get(message.id)?.resolve(message);
    };
    socket.onclose = ({ code, reason }) => {
      clearTimeout(timer);
      this.#isReady = false;
      if (this.#isOver) return;
      // Whether the gateway has got them, nobody knows. The others wait on.
      const lost = `the connection was lost: ${code} ${reason}`.trim();
      const sent = [...this.#waiting.values()].filter(({ isSent }) => isSent);
      // Of all that were on their way, it is the largest that was not taken.
      if (code === TOO_LARGE) {
        sent.sort((one, other) => other.text.length - one.text.length);
        sent.shift()?.reject(fault('too_large', reason, false));
      }
      for (const { reject } of sent) reject(fault('unavailable', lost, true));
      this.#timer = setTimeout(() => this.#connect(), pause(this.#pauses, this.#attempts++));
    };
  }

  #write(waiting: Waiting): void {
    if (waiting.isSent) return;
    waiting.isSent = true;
    if (waiting.text) this.#socket!.send(waiting.text);
    if (!waiting.isAnswered) waiting.resolve();
  }
}
