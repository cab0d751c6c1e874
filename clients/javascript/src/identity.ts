// Who is at this end of a WebSocket, which can send no header: told when it opens, and before a token ends.

import { PASSING, type GenkanError } from './error.js';
import { LONGEST_WAIT, pause, type Pauses } from './transport.js';

/** Gives the token by which the gateway knows who calls. */
export type Token = () => string | Promise<string>;

/** Makes the call that a WebSocket begins with. */
type Ask = (method: string, params: object) => Promise<unknown>;

export class Identity {
  readonly #token: Token;
  readonly #ask: Ask;
  readonly #pauses: Pauses;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(token: Token, ask: Ask, pauses: Pauses) {
    this.#token = token;
    this.#ask = ask;
    this.#pauses = pauses;
  }

  /** Tells the gateway who this is, and again when most of the token's time has passed. */
  async tell(): Promise<void> {
    this.close();
    try {
      const { expires } = await this.#ask('genkan.authenticate', { token: await this.#token() }) as any;
      if (!expires) return;
      const left = Math.max(expires * 1000 - Date.now(), 1000);
      // What fails is tried when the token has ended, and told to those who listen.
      this.#timer = setTimeout(() => this.tell().catch(() => {}), Math.min(left * 0.8, LONGEST_WAIT));
    } catch (error) {
      // A gateway that asks nobody says so, and is as well over HTTP.
      if ((error as GenkanError).kind !== 'invalid_request') throw error;
    }
  }

  /** The same where the token has ended, as often as the gateway cannot tell yet, or is not there. */
  async renew(attempts = 0): Promise<void> {
    try {
      await this.tell();
    } catch (error) {
      if (!PASSING.test((error as GenkanError).kind)) throw error;
      await new Promise((resolve) => { this.#timer = setTimeout(resolve, pause(this.#pauses, attempts)); });
      await this.renew(attempts + 1);
    }
  }

  close(): void {
    clearTimeout(this.#timer);
  }
}
