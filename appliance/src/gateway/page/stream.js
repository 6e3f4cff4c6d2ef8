// Brings the appliance's events, with the key in a header: an EventSource could only put it into the address.

/** Silence, in milliseconds, after which a connection counts as lost; the appliance says something every five seconds. */
const SILENCE = 15_000;

/** Pauses, in milliseconds, before the next attempt: the first soon, later ones calmly. */
const PAUSES = [500, 1_000, 2_000, 5_000, 10_000];

/** Splits a stream of text into events, however it was cut. */
export class Events {
  #rest = '';

  /** The events that are complete with this text, as [name, data]. */
  push(text) {
    const blocks = (this.#rest + text).split('\n\n');
    this.#rest = blocks.pop();
    return blocks.map(block => {
      let name = 'message';
      const data = [];
      for (const line of block.split('\n')) {
        if (line.startsWith('event:')) name = line.slice(6).trim();
        if (line.startsWith('data:')) data.push(line.slice(5).replace(/^ /, ''));
      }
      return [name, data.join('\n')];
    }).filter(([, data]) => data !== '');
  }
}

/**
 * Follows `/v1/events` for as long as the page can be seen, and comes back whenever it breaks.
 * `key()` gives the key to show, or null; `heard(name, value)` takes events, `lost(reason)` the lack of them.
 * Returns a function that begins anew, for another key.
 */
export function follow({ key, heard, lost }) {
  let current = null, attempt = 0, timer = 0;

  async function run() {
    clearTimeout(timer);
    current?.abort();
    const own = current = new AbortController();
    let reason = 'The appliance does not answer.';
    try {
      const shown = key();
      const headers = shown ? { 'X-API-Key': shown } : {};
      const response = await fetch('/v1/events', { headers, cache: 'no-store', signal: own.signal });
      if (response.status === 503) reason = 'Too many are watching already.';
      if (!response.ok) throw new Error(reason);
      await read(response.body, own);
    } catch {
      // Said by `lost`, whatever it was; a page that is hidden or begins anew has aborted it itself.
    }
    if (own !== current) return;
    lost(reason);
    timer = setTimeout(run, PAUSES[Math.min(attempt++, PAUSES.length - 1)]);
  }

  async function read(body, own) {
    const events = new Events();
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const silence = setTimeout(() => own.abort(), SILENCE);
      const { value, done } = await reader.read().finally(() => clearTimeout(silence));
      if (done) return;
      attempt = 0;
      for (const [name, data] of events.push(value)) heard(name, JSON.parse(data));
    }
  }

  function visible() {
    if (document.hidden) {
      clearTimeout(timer);
      const own = current;
      current = null;
      own?.abort();
    } else if (!current) {
      run();
    }
  }

  document.addEventListener('visibilitychange', visible);
  visible();
  return run;
}
