// What the two ways to the gateway have in common.

/** How long a call may take, and what gives it up before. */
export interface Limits {
  /** Milliseconds. */
  timeout: number;
  signal?: AbortSignal | undefined;
  /** A call under the same one is not run again: see Idempotency keys in docs/http.md. */
  idempotencyKey?: string | undefined;
}

/** Milliseconds. A timer that is to wait for longer ends at once. */
export const LONGEST_WAIT = 2 ** 31 - 1;

/** The pauses between attempts, in milliseconds: each is twice the one before. */
export interface Pauses {
  first: number;
  longest: number;
}

/** How long to wait after so many attempts. Not all clients come at once, when a gateway comes back. */
export function pause({ first, longest }: Pauses, attempts: number): number {
  return Math.min(first * 2 ** attempts, longest) * (0.5 + Math.random() / 2);
}

/** JSON-RPC's answer, or a notification of the gateway's. */
export interface Message {
  id?: number | null;
  method?: string;
  params?: any;
  result?: unknown;
  error?: { code: number; message: string; data?: unknown };
}

export interface Transport {
  /** Resolves when calls can be made. */
  ready(limits: Limits): Promise<unknown>;
  /**
   * Sends a request, or over HTTP a batch of them. `key` is the id in it, or any one of a batch; without one, nothing
   * is answered.
   */
  send(text: string, key: number | undefined, limits: Limits): Promise<Message | Message[] | undefined>;
  /** What the gateway was told of who calls, for whoever finds it refused; none where each call tells it anew. */
  told?(): string | undefined;
  /** Whether the gateway has been told another than the refused one. */
  change?(refused: string | undefined): Promise<boolean>;
  close(): void;
}

/** `work`, until it is too late or not wanted any more: it is told by `stop`. */
export async function within<T>(
  { timeout, signal }: Limits,
  late: () => Error,
  work: (stop: AbortSignal) => Promise<T>,
): Promise<T> {
  signal?.throwIfAborted();
  const stopper = new AbortController();
  const stop = stopper.signal;
  const abort = () => stopper.abort(signal!.reason);
  const timer = setTimeout(() => stopper.abort(late()), Math.min(timeout, LONGEST_WAIT));
  signal?.addEventListener('abort', abort);
  try {
    return await Promise.race([
      work(stop),
      new Promise<never>((_, reject) => { stop.onabort = () => reject(stop.reason); }),
    ]);
  } finally {
    stop.onabort = null;
    clearTimeout(timer);
    signal?.removeEventListener('abort', abort);
  }
}
