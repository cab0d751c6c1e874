// The connection, as a person sees it. The client connects again by itself, so this only looks on.

/** A WebSocket that tells by `pill` and in `feed` whether Genkan is there. */
export function watched(url, pill, feed) {
  const { host } = new URL(url);
  let lostAt;
  const tell = (state, text) => {
    if (pill.textContent !== text) pill.textContent = text;
    pill.dataset.state = state;
  };
  tell('connecting', `Connecting to ${host} …`);

  return class extends WebSocket {
    #wasOpen = false;

    constructor(url) {
      super(url);
      this.addEventListener('open', () => {
        this.#wasOpen = true;
        tell('open', `Connected to ${host}`);
        if (lostAt) feed.note(`Connected again after ${((performance.now() - lostAt) / 1000).toFixed(1)} s`);
        lostAt = undefined;
      });
      this.addEventListener('close', ({ code, reason }) => {
        if (this.#wasOpen) {
          lostAt = performance.now();
          feed.note(`The connection was lost: ${reason || `code ${code}`}`);
        }
        tell('lost', lostAt ? `Connecting to ${host} again …` : `${host} is not there. Trying again …`);
      });
    }
  };
}
