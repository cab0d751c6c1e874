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

  constructor({ code, message = '', data }: Fault) {
    super(message);
    const said = Object(data);
    this.data = data;
    // A JSON-RPC service's data may be no object, and has no room for them then: see Its errors in docs/jsonrpc.md.
    this.kind = said.kind ?? OWN_KINDS[code!] ?? 'application';
    const isKnown = said !== data || Array.isArray(data);
    this.outcome = said.outcome ?? (data != null && isKnown && !/^-32(60[0-2]|700)$/.test(`${code}`) ? 'executed' : 'unknown');
    // What is refused without an envelope has none.
    this.code = code ?? CODES[this.kind as Kind] ?? CODES.internal;
    this.retryable = said.retryable ?? false;
  }
}

const CODES = {
  parse_error: -32700,
  invalid_request: -32600,
  unknown_method: -32601,
  unknown_service: -32601,
  invalid_params: -32602,
  internal: -32603,
  application: -32000,
  access_denied: -32001,
  timeout: -32003,
  unavailable: -32004,
  overloaded: -32005,
  too_large: -32006,
};
type Kind = keyof typeof CODES;

/** What a service's own error is of, where that is not `application`. */
const OWN_KINDS: Record<number, Kind> = { [-32601]: 'unknown_method', [-32602]: 'invalid_params' };

/** What a proxy before the gateway says by its status. All but the last had it hand nothing on. */
const STATUSES: Record<number, Kind> = {
  401: 'access_denied',
  403: 'access_denied',
  413: 'too_large',
  429: 'overloaded',
  504: 'timeout',
};

/** Of what is worth another attempt, by whoever only asks to be let in or to listen. */
export const PASSING = /^(unavailable|overloaded|timeout|internal)$/;

/** A fault that the client itself tells. */
export function fault(kind: Kind, message: string, isSent: boolean): GenkanError {
  const retryable = !isSent && ['timeout', 'unavailable', 'overloaded'].includes(kind);
  return new GenkanError({ message, data: { kind, outcome: isSent ? 'unknown' : 'not_sent', retryable } });
}

/** An answer that is no JSON-RPC's: of the gateway's door, or of a proxy before it. */
export function refused({ status, statusText }: Response, text: string): never {
  let said: any;
  try {
    said = JSON.parse(text);
  } catch {}
  if (said?.error?.code) throw new GenkanError(said.error);
  if (said?.kind) throw new GenkanError({ message: said.detail, code: said.code, data: said });
  const kind = STATUSES[status];
  throw fault(kind ?? 'unavailable', `HTTP ${status}: ${/</.test(text) ? statusText : text.slice(0, 200)}`, !kind || status > 500);
}
