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
  /** The token that was told last. */
  #told: string | undefined;
  #change: Promise<boolean> | undefined;

  constructor(token: Token, ask: Ask, pauses: Pauses) {
    this.#token = token;
    this.#ask = ask;
    this.#pauses = pauses;
  }

  /** Tells the gateway who this is, by a token that is at hand or a new one, and again when most of its time has passed. */
  async tell(given?: string): Promise<void> {
    this.close();
    try {
      const token = given ?? await this.#token();
      const { expires } = await this.#ask('genkan.authenticate', { token }) as any;
      this.#told = token;
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

  /** The token that calls are made by now. */
  get told(): string | undefined {
    return this.#told;
  }

  /** Whether there is another token than the `refused` one, which the gateway has been told by now. */
  async change(refused: string | undefined): Promise<boolean> {
    if (this.#told !== refused) return true;
    this.#change ??= this.#tellAnother(refused).finally(() => { this.#change = undefined; });
    return this.#change;
  }

  async #tellAnother(refused: string | undefined): Promise<boolean> {
    const token = await this.#token();
    if (token === refused) return false;
    await this.tell(token);
    return true;
  }

  close(): void {
    clearTimeout(this.#timer);
  }
}
