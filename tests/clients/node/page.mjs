// The status page in a real headless Chromium, against both real programs: BASE_URL, API_KEY and MODEL come from the
// environment, CHROMIUM names the browser, SCREENSHOTS the folder for what it showed.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { chromium } from "playwright-core";

const { BASE_URL, API_KEY, MODEL, CHROMIUM, SCREENSHOTS } = process.env;
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const DESKTOP = { width: 1280, height: 900 };
const PHONE = { width: 360, height: 740 };
const SECRET = "marmalade_of_the_prompt";

const root = process.getuid() === 0;
const browser = await chromium.launch({ executablePath: CHROMIUM, args: root ? ["--no-sandbox"] : [] });
const context = await browser.newContext({ viewport: DESKTOP, colorScheme: "light", reducedMotion: "reduce" });
context.setDefaultTimeout(60_000);
const page = await context.newPage();

// Everything that goes wrong, and every address that is asked for.
const wrong = [];
const addresses = [];
page.on("console", message => {
  if (["error", "warning"].includes(message.type())) wrong.push(message.text());
});
page.on("pageerror", error => wrong.push(String(error)));
page.on("request", request => addresses.push(request.url()));
page.on("response", response => {
  if (response.status() >= 400) wrong.push(`${response.status()} ${response.url()}`);
});
page.on("requestfailed", request => {
  // The page itself ends its stream when it begins another one, with another key.
  const own = request.url().endsWith("/v1/events") && request.failure().errorText === "net::ERR_ABORTED";
  if (!own) wrong.push(`${request.failure().errorText} ${request.url()}`);
});

const text = selector => page.locator(selector).first().innerText();
const shows = (selector, pattern) =>
  page.waitForFunction(
    ([selector, source]) => new RegExp(source).test(document.querySelector(selector)?.innerText ?? ""),
    [selector, pattern.source],
  );

function post(path, body, options = {}) {
  const headers = { "x-api-key": API_KEY, "content-type": "application/json" };
  return fetch(BASE_URL + path, { method: "POST", headers, body: JSON.stringify(body), ...options });
}

/** Where the keyboard gets to, from the top, until it leaves the page. */
async function tabs() {
  await page.evaluate(() => scrollTo(0, 0));
  // From where a person would begin.
  await page.mouse.click(1, 1);
  const stops = [];
  for (let presses = 0; presses < 40; presses++) {
    await page.keyboard.press("Tab");
    const stop = await page.evaluate(() => {
      const { id, tagName, textContent, className } = document.activeElement;
      const { outlineStyle, outlineWidth } = getComputedStyle(document.activeElement);
      const seen = outlineStyle !== "none" && parseFloat(outlineWidth) >= 2;
      return tagName === "BODY" ? null : { name: id || className || textContent, seen };
    });
    if (!stop || stops.some(({ name }) => name === stop.name)) break;
    stops.push(stop);
  }
  assert.deepEqual(stops.filter(stop => !stop.seen), [], "the focus must be seen");
  return stops.map(stop => stop.name);
}

async function accessible(where) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => axe.run({ runOnly: ["wcag2a", "wcag2aa", "wcag21aa", "best-practice"] }));
  const found = violations.map(({ id, nodes }) => `${id}: ${nodes.map(node => node.html + node.failureSummary).join("; ")}`);
  assert.deepEqual(found, [], where);
}

async function narrow(where) {
  const [content, room] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  assert.ok(content <= room, `${where}: ${content} px of content in ${room}`);
}

/** As it looks so, checked and kept as a picture. */
async function look(name, viewport, colorScheme) {
  await page.setViewportSize(viewport);
  await page.emulateMedia({ colorScheme });
  await page.evaluate(() => scrollTo(0, 0));
  await narrow(name);
  await accessible(name);
  await page.screenshot({ path: join(SCREENSHOTS, `${name}.png`), fullPage: true });
}

// A stranger: the state, and how to see more.
const opened = await page.goto(`${BASE_URL}/`);
assert.match(opened.headers()["content-security-policy"], /default-src 'none'/);
await shows("#state", /Ready/);
assert.equal(await page.locator("#running").isVisible(), false);
assert.deepEqual(await tabs(), ["skip", "key-field", "Show", "key-keep", "curl", "copy", "OpenAPI", "Health"]);
await look("stranger", DESKTOP, "light");
await look("stranger-phone-dark", PHONE, "dark");
await page.setViewportSize(DESKTOP);
await page.emulateMedia({ colorScheme: "light" });

// A wrong key is told so; the right one, by keyboard alone, opens the rest.
await page.focus("#key-field");
await page.keyboard.type("cbr_0000");
await page.keyboard.press("Enter");
await shows("#key-wrong", /does not know that key/);
await page.keyboard.type(API_KEY);
await page.keyboard.press("Enter");
await shows("#running", /Nothing at present/);
await shows("#servers", /Ready/);
await shows("#who", /test client/);
assert.equal(await page.locator("#key-form").isVisible(), false);
await accessible("nothing asked yet");

// Requests of several kinds, one that its client leaves, and one that is none.
const code = Array.from({ length: 60 }, (_, n) => `def step_${n % 9}(values):\n    return [value * ${n % 9} for value in values]\n`);
const prompt = `${code.join("\n")}\n# ${SECRET}\n# REFACTOR: turn the step functions into one with a factor`;
await post("/v1/chat/completions", { model: MODEL, messages: [{ role: "user", content: `${SECRET}: def add(a, b):` }], max_tokens: 24 });
await post("/v1/complete", { prompt, max_tokens: 40, temperature: 0 });
await post("/infill", { input_prefix: "fn main() {\n", input_suffix: "\n}\n", n_predict: 16 });
await post("/v1/complete", { prompt: 3 });
await shows("#recent", /Refused/);

/** Streams an answer; its last event. */
async function stream(body) {
  const answer = await post("/v1/complete/stream", body);
  let all = "";
  for await (const part of answer.body) all += Buffer.from(part).toString();
  return JSON.parse(all.trim().split("\n").at(-1).replace(/^data: /, ""));
}

// Live: the count of tokens rises while the answer is written. The small model is fast, so that it may take a few; two at a
// time take longer.
let counts = [];
for (let attempt = 0; attempt < 20 && counts.length < 3; attempt++) {
  counts = [];
  let request;
  let ended = false;
  const ask = last => stream({ prompt: `${prompt} ${attempt} ${last}`, max_tokens: 1500, language: "python" });
  const reading = Promise.all([ask("a"), ask("b")]).finally(() => (ended = true));
  while (!ended) {
    const seen = await page.evaluate(of => {
      const row = document.querySelector(of === undefined ? "#running [data-phase=writing]" : `#running [data-number="${of}"]`);
      return row && { number: row.dataset.number, tokens: row.querySelector("[data-name=tokens]")?.innerText };
    }, request);
    request ??= seen?.number;
    const tokens = Number(seen?.tokens?.replaceAll(",", ""));
    if (tokens > 0 && tokens !== counts.at(-1)) counts.push(tokens);
    if (counts.length === 1) await page.screenshot({ path: join(SCREENSHOTS, "writing.png"), fullPage: true });
    await new Promise(resolve => setTimeout(resolve, 50));
  }
  // Afterwards both are the first of the recent ones.
  for (const done of await reading) {
    assert.equal(done.error, undefined, done.message);
    await shows("#recent tbody", new RegExp(`${done.total_tokens.toLocaleString("en")} tokens`));
  }
  await shows("#recent tbody tr", /Completion, streamed\s[^]*test client[^]*python[^]*→[^]*Complete/);
}
const rises = counts.every((tokens, at) => at === 0 || tokens > counts[at - 1]);
assert.ok(counts.length > 2 && rises, `the count of tokens did not rise on the page: ${counts}`);
await shows("#running", /Nothing at present/);

const leaving = new AbortController();
const left = await post("/v1/complete/stream", { prompt: "left alone", max_tokens: 2000 }, { signal: leaving.signal });
await left.body.getReader().read();
leaving.abort();
await shows("#recent", /Client left/);

// The figures add up, and none of them is a text.
await shows("#pace-now", /tokens written, at most/);
await shows('#savings [data-name="tokens-today"]', /[1-9]/);
await shows('#savings [data-name="seconds-today"]', /[1-9]/);
await shows("#kept-words", /prompts? (was|were) shortened/);
const html = await page.content();
for (const secret of [SECRET, "step_", "left alone", API_KEY]) assert.ok(!html.includes(secret), `${secret} on the page`);

// By keyboard: everything that can be pressed is reached, and pressing it works.
const stops = await tabs();
for (const stop of ["skip", "turn", "curl", "copy", "forget"]) assert.ok(stops.includes(stop), `${stop} in ${stops}`);
const pressed = page.waitForResponse(response => response.url().endsWith("/v1/board/press"));
await page.focus("#turn");
await page.keyboard.press("Enter");
assert.equal((await pressed).status(), 200);
await page.focus("#copy");
await page.keyboard.press("Enter");
await shows("#copied", /Copied|Marked/);
await page.evaluate(() => {
  getSelection().removeAllRanges();
  document.activeElement.blur();
});

await look("light", DESKTOP, "light");
await look("dark", DESKTOP, "dark");
await look("phone", PHONE, "light");
await look("phone-dark", PHONE, "dark");
await page.setViewportSize({ width: 820, height: 1100 });
await narrow("tablet");
const papers = [];
for (const colorScheme of ["light", "dark"]) {
  await page.emulateMedia({ colorScheme });
  papers.push(await page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor));
}
assert.notEqual(papers[0], papers[1], "dark and light look the same");

// The key: in this tab only, in no address, and gone when told.
assert.ok(!addresses.some(address => address.includes(API_KEY) || address.includes("cbr_")), addresses.join("\n"));
assert.equal(await page.evaluate(() => localStorage.length), 0);
await page.reload();
await shows("#recent", /Client left/);
await page.click("#forget");
await shows("#key-why", /key of this appliance/);
assert.equal(await page.evaluate(() => sessionStorage.length), 0);
assert.ok(!(await page.content()).includes("test client"), "what was shown with the key must go with it");
assert.deepEqual(wrong, []);

// The connection is lost, and comes back.
await page.route("**/v1/events", route => route.abort());
await page.reload();
await shows("#state", /does not answer/);
await page.unroute("**/v1/events");
await shows("#state", /Ready/);

await browser.close();
console.log("page ok");
