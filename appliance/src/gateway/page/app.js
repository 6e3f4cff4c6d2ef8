// Puts what the appliance tells into its place. Everything is set as text, never as markup: names come from clients.

import * as draw from './draw.js';
import { follow } from './stream.js';
import { calls, count, duration, load, many, median, outcomes, phases, rate, reasons, state, time } from './words.js';

const $ = id => document.getElementById(id);

/** An element with text, or with children. */
function make(name, content = '', attributes = {}) {
  const made = document.createElement(name);
  if (Array.isArray(content)) made.append(...content);
  else made.textContent = content;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

/** Sets text only where it changes, so that nothing is announced twice. */
function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** What is known; null until the appliance has told. */
const known = { health: null, access: null, figures: null, recent: [], lost: null, clock: 0, born: null };

/** Requests that are listed before somebody asks for more: fewer where each is a card of its own. */
const wide = matchMedia('(min-width: 48rem)');
const shownAtFirst = () => wide.matches ? 12 : 5;
let all = false;

// The key: in this tab, or in this browser when asked to.
const KEY = 'cerebrum-key';
const key = () => sessionStorage.getItem(KEY) ?? localStorage.getItem(KEY);
function keep(value, stays) {
  forget();
  (stays ? localStorage : sessionStorage).setItem(KEY, value);
}
function forget() {
  sessionStorage.removeItem(KEY);
  localStorage.removeItem(KEY);
}

const show = draw.board($('display'), $('lamps'));

const hear = {
  display(value) {
    known.board = true;
    show(value);
  },
  lamps: value => show(value),
  health(value) {
    known.health = value;
    $('display').hidden = $('lamps').hidden = !known.board;
    $('no-board').hidden = Boolean(known.board);
    overview();
  },
  access(value) {
    known.access = value;
    known.clock = Date.now() - Date.parse(value.now);
    known.born = value.uptime_seconds === undefined ? null : Date.now() - value.uptime_seconds * 1000;
    entrance();
  },
  figures(value) {
    known.figures = value;
    overview();
    pace();
    running();
    savings();
    servers();
  },
  recent(value) {
    known.recent = value;
    recent();
    servers();
    overview();
  },
};

function overview() {
  const { health, figures, lost } = known;
  if (lost) {
    say($('state'), lost);
    say($('detail'), 'Trying again …');
    $('state').dataset.mood = 'bad';
    return;
  }
  if (!health) return;
  const newest = figures?.running.at(-1);
  let [sentence, mood] = state(health, newest?.phase);
  if (figures?.problems.length) [sentence, mood] = [figures.problems[0], 'bad'];
  say($('state'), sentence);
  $('state').dataset.mood = mood;
  say($('detail'), load(health));
  document.title = health.active_count ? `(${health.active_count}) Cerebrum` : 'Cerebrum';
  if (figures) numbers();
}

function numbers() {
  const { figures, recent: past } = known;
  const writing = figures.running.filter(request => request.tokens_per_second !== null);
  const last = past.find(request => request.tokens_per_second !== null && request.outcome === 'complete');
  const speed = writing.length
    ? [rate(writing.reduce((sum, request) => sum + request.tokens_per_second, 0)), 'tokens per second']
    : [last ? rate(last.tokens_per_second) : '–', 'tokens per second, last answer'];
  const today = saved(figures.preparation.hours.filter(isToday));
  const { requests_successful: good, requests_failed: bad, answers_cached: again } = figures.vps_client;
  const apart = [again ? `${count(again)} from memory` : '', bad ? `${count(bad)} failed` : ''].filter(Boolean);
  list($('numbers'), [
    ['speed', ...speed],
    ['running-now', count(figures.running.length), 'in progress'],
    ['saved-today', `${duration(today.seconds)}`, 'of reading saved today'],
    ['answers', count(good + again), apart.length ? `answers, ${apart.join(', ')}` : 'answers since the start'],
  ]);
}

/** Terms and values, each under a name of its own. */
function list(place, entries) {
  place.replaceChildren(...entries.map(([name, value, label]) =>
    make('div', [make('dt', label), make('dd', value)], { 'data-name': name })));
}

function pace() {
  const { tokens, span_seconds: span } = known.figures.pace;
  const rates = tokens.map(number => number / span), highest = draw.area($('pace'), rates);
  say($('pace-top'), rate(highest));
  say($('pace-half'), rate(highest / 2));
  say($('pace-start'), `${Math.round(tokens.length * span / 60)} minutes ago`);
  const peak = Math.max(...rates), written = tokens.reduce((sum, number) => sum + number, 0);
  const words = written ? `${many(written, 'token')} written, at most ${rate(peak)} per second` : 'Nothing written lately';
  say($('pace-now'), words);
  $('pace').setAttribute('aria-label', `Tokens per second over the last five minutes: ${words}`);
}

function running() {
  const requests = known.figures.running;
  if (!requests.length) return $('running').replaceChildren(make('li', 'Nothing at present.', { class: 'quiet none' }));
  $('running').replaceChildren(...requests.map(request => {
    const bar = make('progress', '', { max: 1, 'aria-label': phases[request.phase] });
    if (request.phase === 'reading' && request.progress > 0) bar.value = request.progress;
    if (request.phase === 'writing') bar.value = 1;
    const speed = request.tokens_per_second === null ? '' : `, ${rate(request.tokens_per_second)} per second`;
    const prompt = request.prompt_tokens === null ? '' : ` of about ${many(request.prompt_tokens, 'token')}`;
    const doing = request.phase === 'writing'
      ? [make('b', count(request.tokens), { 'data-name': 'tokens' }), ` ${request.tokens === 1 ? 'token' : 'tokens'}${speed}`]
      : [`${phases[request.phase]}${prompt}`];
    return make('li', [
      make('p', [make('b', calls[request.call] ?? request.call), ` for ${request.client}`]),
      make('p', [request.model, language(request), request.upstream].filter(Boolean).join(' · '), { class: 'quiet' }),
      bar,
      make('p', [make('span', doing), make('span', duration(request.seconds), { class: 'quiet' })], { class: 'row spread' }),
    ], { 'data-phase': request.phase, 'data-number': request.number });
  }));
}

/** The language of a request's code, where it is known. */
const language = request => request.language === 'unknown' ? null : request.language;

/** The hour, in the reader's own day? */
function isToday({ start }) {
  const midnight = new Date();
  midnight.setHours(0, 0, 0, 0);
  return Date.parse(start) + known.clock >= midnight.getTime();
}

const saved = sums => sums.reduce(
  (sum, one) => ({ tokens: sum.tokens + one.saved_tokens, seconds: sum.seconds + one.saved_seconds }),
  { tokens: 0, seconds: 0 },
);

function savings() {
  const { since_start: total, hours } = known.figures.preparation;
  const today = saved(hours.filter(isToday)), ever = saved([total]);
  list($('savings'), [
    ['tokens-today', count(today.tokens), 'tokens today'],
    ['seconds-today', duration(today.seconds), 'of reading today'],
    ['tokens-ever', count(ever.tokens), 'tokens since the start'],
    ['seconds-ever', duration(ever.seconds), 'of reading since the start'],
  ]);
  const share = total.original_tokens ? total.sent_tokens / total.original_tokens : 1;
  const percent = Math.round(share * 100);
  const words = total.original_tokens
    ? `${count(total.sent_tokens)} of ${many(total.original_tokens, 'prompt token')} were sent (${percent} %); ` +
      `${many(total.shortened, 'prompt was', 'prompts were')} shortened.`
    : 'No prompt yet.';
  $('kept').firstElementChild.style.setProperty('inline-size', `${share * 100}%`);
  $('kept').setAttribute('aria-label', `${percent} % of the prompts’ tokens were sent`);
  say($('kept-words'), words);
  const hour = 3_600_000, now = Math.floor((Date.now() - known.clock) / hour);
  const by = new Map(hours.map(({ start, saved_tokens: tokens }) => [Math.floor(Date.parse(start) / hour), tokens]));
  const values = Array.from({ length: 24 }, (_, back) => by.get(now - 23 + back) ?? 0);
  draw.bars($('hours'), values);
  const most = Math.max(...values);
  $('hours').setAttribute('aria-label', `Tokens left out in each of the last 24 hours, at most ${count(most)}`);
}

function servers() {
  if (!known.figures) return;
  $('servers').replaceChildren(...known.figures.upstreams.map(server => {
    const well = server.available && server.breaker === 'closed';
    const trip = server.round_trip_ms === null || !server.connected ? '' : `Answers in ${server.round_trip_ms < 1 ? 'under 1' : Math.round(server.round_trip_ms)} ms.`;
    const lately = known.recent.filter(({ upstream }) => upstream === server.name);
    const good = lately.filter(({ outcome }) => outcome === 'complete');
    const speed = median(good.map(({ tokens_per_second: speed }) => speed).filter(speed => speed !== null));
    const bad = lately.length && lately.filter(({ outcome }) => outcomes[outcome]?.[1] === 'bad').length;
    const history = [
      speed === null ? '' : `Median of its last ${many(good.length, 'answer')}: ${rate(speed)} tokens per second.`,
      bad ? `${many(bad, 'request')} of the last ${count(lately.length)} failed.` : '',
    ].filter(Boolean).join(' ');
    const again = server.retry_seconds ? `Next attempt in ${duration(server.retry_seconds)}.` : '';
    return make('li', [
      make('p', [make('i', '', { class: 'dot', 'data-mood': well ? 'good' : 'bad', 'aria-hidden': 'true' }), make('b', server.name)]),
      make('p', [server.message, again || trip].filter(Boolean).join(' '), { class: 'quiet' }),
      make('p', history, { class: 'quiet' }),
    ], { 'data-name': server.name });
  }));
}

function recent() {
  const now = new Date();
  const shown = all ? known.recent : known.recent.slice(0, shownAtFirst());
  $('recent').hidden = !shown.length;
  $('recent-none').hidden = Boolean(shown.length);
  $('more').hidden = known.recent.length <= shownAtFirst();
  say($('more'), all ? 'Show fewer' : `Show all ${known.recent.length}`);
  $('recent').tBodies[0].replaceChildren(...shown.map(request => {
    const [word, mood] = outcomes[request.outcome] ?? [request.outcome, 'fair'];
    const why = request.reason && request.outcome !== 'stopped' ? reasons[request.reason] ?? request.reason : '';
    const then = new Date(Date.parse(request.started) + known.clock);
    const cut = request.original_tokens > request.prompt_tokens;
    const prompt = request.prompt_tokens === null ? '–'
      : `${cut ? count(request.original_tokens) + ' → ' : ''}${count(request.prompt_tokens)}`;
    const answer = request.remembered ? 'from memory'
      : request.tokens_per_second === null ? '' : `${rate(request.tokens_per_second)} per second`;
    const first = request.first_token_seconds === null || request.remembered ? ''
      : `first token ${duration(request.first_token_seconds)}`;
    const cells = [
      ['Time', make('time', time(then, now), { datetime: then.toISOString() })],
      ['Request', calls[request.call] ?? request.call, request.client],
      ['Model', request.model ?? '–', language(request)],
      ['Prompt tokens', prompt, request.cached_tokens ? `${count(request.cached_tokens)} in the cache` : ''],
      ['Answer', request.model === null ? '–' : many(request.tokens, 'token'), answer],
      ['Took', duration(request.seconds), first],
      ['Outcome', make('span', word, { class: 'outcome', 'data-mood': mood }), why],
    ];
    const row = make('tr', cells.map(([label, first, second]) => {
      const cell = make('td', [typeof first === 'string' ? make('span', first) : first], { role: 'cell', 'data-label': label });
      if (second) cell.append(make('small', second));
      if (['Prompt tokens', 'Answer', 'Took'].includes(label)) cell.className = 'number';
      return cell;
    }), { role: 'row' });
    return row;
  }));
}

/** Who may see what, and what the page offers accordingly. */
function entrance() {
  const { access } = known;
  document.body.dataset.access = access.figures ? 'granted' : 'none';
  const wrong = !access.figures && key() !== null;
  say($('key-wrong'), wrong ? 'The appliance does not know that key. It may have been revoked, or mistyped.' : '');
  if (wrong) forget();
  const named = access.figures && access.client !== 'open';
  const who = named ? `seen with the key “${access.client}”` : 'open to everybody who can reach it';
  say($('who'), access.figures ? `Cerebrum ${access.version}, ${who}.` : '');
  $('forget').hidden = !named;
  $('turn').hidden = !(access.figures && access.pressable);
  const header = access.figures && !named ? '' : ` \\\n     -H 'X-API-Key: …'`;
  say($('curl'), `curl -N ${location.origin}/v1/complete/stream${header} \\\n     -d '{"prompt": "def fibonacci(n):", "max_tokens": 64}'`);
  if (!access.figures) {
    // What was shown with a key goes with it.
    [known.figures, known.recent] = [null, []];
    for (const place of ['numbers', 'running', 'savings', 'servers']) $(place).replaceChildren();
    recent();
  }
  age();
}

function age() {
  const { born } = known;
  say($('uptime'), born === null ? '' : `up for ${duration(Math.max(60, Math.floor((Date.now() - born) / 60_000) * 60))}`);
}

const again = follow({
  key,
  heard(name, value) {
    if (known.lost) [known.lost, known.board] = [null, false];
    hear[name]?.(value);
  },
  lost(reason) {
    known.lost = reason;
    overview();
  },
});

$('key-form').addEventListener('submit', event => {
  event.preventDefault();
  const value = $('key-field').value.trim();
  // A header takes no other characters; whatever else was pasted is no key.
  if (!/^[\x21-\x7e]+$/.test(value)) return say($('key-wrong'), 'That is no key: a key has letters, digits and “_” only.');
  keep(value, $('key-keep').checked);
  $('key-field').value = '';
  again();
});
$('forget').addEventListener('click', () => {
  forget();
  again();
  $('main').focus();
});
$('more').addEventListener('click', () => {
  all = !all;
  recent();
});
wide.addEventListener('change', recent);
$('turn').addEventListener('click', () => {
  const headers = { 'Content-Type': 'application/json', ...(key() && { 'X-API-Key': key() }) };
  fetch('/v1/board/press', { method: 'POST', headers, body: JSON.stringify({ button: 'first' }) });
});
$('copy').addEventListener('click', async () => {
  const text = $('curl').textContent;
  let done = false;
  try {
    await navigator.clipboard.writeText(text);
    done = true;
  } catch {
    // Browsers lend their clipboard over HTTPS only; the old way works everywhere.
    getSelection().selectAllChildren($('curl'));
    done = document.execCommand('copy');
  }
  say($('copied'), done ? 'Copied.' : 'Marked: copy it with the keyboard.');
});
setInterval(age, 30_000);
