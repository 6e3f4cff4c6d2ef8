// Says figures as people do.

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat('en', { notation: 'compact', maximumSignificantDigits: 3 });

/** 940, 12,300, 1.24M. */
export const count = number => number < 100_000 ? whole.format(number) : short.format(number);

/** One decimal below ten: 0.7, 8.2, 120. */
export const rate = number => number < 9.95 ? number.toFixed(1) : whole.format(number);

/** `1 token`, `2 tokens`. */
export const many = (number, one, more = one + 's') => `${count(number)} ${number === 1 ? one : more}`;

/** 0 s, 0.21 s, 4.2 s, 38 s, 3 min 20 s, 2 h 5 min, 4 d 3 h. */
export function duration(seconds) {
  if (seconds === 0) return '0 s';
  if (seconds < 0.0095) return 'under 0.01 s';
  if (seconds < 0.995) return `${seconds.toFixed(2)} s`;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const s = Math.round(seconds), m = Math.floor(s / 60), h = Math.floor(m / 60), d = Math.floor(h / 24);
  if (s < 60) return `${s} s`;
  if (h < 1) return s % 60 ? `${m} min ${s % 60} s` : `${m} min`;
  if (d < 1) return m % 60 ? `${h} h ${m % 60} min` : `${h} h`;
  return h % 24 ? `${d} d ${h % 24} h` : `${d} d`;
}

/** The time of day where the reader is, with the date when it was another day. */
export function time(then, now) {
  const clock = then.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', second: '2-digit' });
  return then.toDateString() === now.toDateString()
    ? clock : `${then.toLocaleDateString([], { day: 'numeric', month: 'short' })}, ${clock}`;
}

/** The middle one; null of none. */
export function median(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b);
  return sorted.length ? sorted[sorted.length >> 1] : null;
}

/** What was called. */
export const calls = {
  complete: 'Completion', stream: 'Completion, streamed', batch: 'Batch', chat: 'Chat', completions: 'OpenAI completion',
  messages: 'Messages', infill: 'Fill-in',
};

/** What a request in progress does. */
export const phases = { preparing: 'Preparing', loading: 'Loading the model', reading: 'Reading the prompt', writing: 'Writing' };

/** How a request ended, and how that is to be taken: good, fair or bad. */
export const outcomes = {
  complete: ['Complete', 'good'], refused: ['Refused', 'fair'], failed: ['Failed', 'bad'],
  timed_out: ['Timed out', 'bad'], cancelled: ['Client left', 'fair'], stopped: ['Stopped', 'fair'],
};

/** Why, in words; what is not listed is said as it is. */
export const reasons = {
  bad_request: 'not a valid request', context_length_exceeded: 'too long for the model', model_not_found: 'no such model',
  busy: 'server busy', overloaded: 'server overloaded', model_load_failed: 'model cannot be loaded',
  stopping: 'stopped', upstream_lost: 'connection to the server lost', timeout: 'took too long',
  internal: 'fault of the server', too_many_requests: 'over the key’s limit', body_too_large: 'body too large',
  body_timeout: 'body came too slowly', body_incomplete: 'body broke off', stopped: 'stopped',
};

/** The state of all, from what everybody may see: a sentence and a mood. */
export function state(health, phase) {
  if (!health.vps_connected) return ['The inference server cannot be reached', 'bad'];
  if (!health.vps_available) return [`The inference server takes no requests: it is ${health.vps_status}`, 'bad'];
  if (health.active_count === 0) return ['Ready', 'good'];
  const doing = {
    preparing: 'Preparing a prompt', loading: 'Loading a model', reading: 'Reading a prompt', writing: 'Writing an answer',
  }[phase];
  return [doing ?? 'At work', 'busy'];
}

/** What waits and runs, in a sentence. */
export function load(health) {
  const waiting = health.queue_count ? `, ${many(health.queue_count, 'request waits', 'requests wait')}` : '';
  const running = health.active_count ? many(health.active_count, 'request') + ' in progress' : 'No request in progress';
  return `${running}${waiting}. The appliance’s processor is at ${Math.round(health.cpu_percent)} %.`;
}
