// Why a call has no result: docs/faults.md. Also what the client itself has to say, in the same words.

/** What the caller may believe about the service's side. */
export type Outcome = 'not_sent' | 'rejected' | 'executed' | 'unknown';

/** JSON-RPC's `error`. */
interface Fault {
  code?: number;
  message?: string;
  data?: unknown;
}

export class GenkanError extends Error {
  override readonly name = 'GenkanError';
  /** One word of a closed set: `timeout`, `unavailable`, `application`… */
  readonly kind: string;
  /** JSON-RPC's code. */
  readonly code: number;
  /** All that the fault says of itself: of a service's own error `class`, `info`, `args`… */
  readonly data: any;
  /** What may be believed about the service's side. */
  readonly outcome: Outcome;
  /** Whether the same call may be sent again, and cannot run twice by it. */
  readonly retryable: boolean;

  constructor({ code = -32603, message = '', data }: Fault) {
    super(message);
    const said = Object(data);
    this.code = code;
    this.data = data;
    this.kind = said.kind ?? 'application';
    this.outcome = said.outcome ?? 'unknown';
    this.retryable = said.retryable ?? false;
  }
}

const CODES = {
  invalid_request: -32600,
  internal: -32603,
  access_denied: -32001,
  timeout: -32003,
  unavailable: -32004,
  overloaded: -32005,
};

/** A fault that the client itself tells. */
export function fault(kind: keyof typeof CODES, message: string, isSent: boolean): GenkanError {
  const retryable = !isSent && kind !== 'invalid_request' && kind !== 'access_denied';
  const data = { kind, outcome: isSent ? 'unknown' : 'not_sent', retryable };
  return new GenkanError({ code: CODES[kind], message, data });
}
