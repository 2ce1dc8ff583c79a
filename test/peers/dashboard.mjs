// A person with a browser on the dashboard: carries out the steps that come as
// lines of JSON on standard input, [name, argument...], and answers each with a
// line, {"value": ...} or {"error": "..."}. It ends when its input does.
//
//   node dashboard.mjs /usr/bin/chromium
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import http from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { createInterface } from 'node:readline';
import { chromium } from 'playwright-core';

const profile = mkdtempSync(join(tmpdir(), 'profile-'));
const browser = await chromium.launch({
  executablePath: process.argv[2],
  headless: true,
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage'],
  env: { PATH: process.env.PATH, HOME: profile, XDG_CONFIG_HOME: profile, XDG_CACHE_HOME: profile, LANG: 'C.UTF-8' },
});
const context = await browser.newContext({ viewport: { width: 1024, height: 768 } });
context.setDefaultTimeout(15000);
// The page may not need its own origin only: nothing else is asked for by it.
const asked = new Set();
const bodies = [];
const errors = [];
context.on('request', (r) => asked.add(new URL(r.url()).origin));
context.on('response', async (r) => {
  const body = await r.text().catch(() => '');
  bodies.push(body, JSON.stringify(r.headers()));
});
const page = await context.newPage();
page.on('console', (m) => { if (m.type() === 'error') errors.push(m.text()); });
page.on('pageerror', (e) => errors.push(String(e)));
const axe = readFileSync(new URL('./node_modules/axe-core/axe.min.js', import.meta.url), 'utf8');

const steps = {
  open: async (url) => {
    const r = await page.goto(url);
    return r ? r.status() : 0;
  },
  url: async () => page.url(),
  waitURL: async (part) => { await page.waitForURL((u) => u.href.includes(part)); },
  text: async () => page.locator('body').innerText(),
  html: async () => page.content(),
  see: async (selector, text) => { await page.locator(selector, { hasText: text }).first().waitFor(); },
  gone: async (selector) => { await page.locator(selector).waitFor({ state: 'detached' }); },
  click: async (selector) => { await page.locator(selector).first().click(); },
  // down begins a click with the mouse, or with a key on what it focuses; up ends it.
  down: async (selector, key) => {
    if (key) {
      await page.locator(selector).first().focus();
      await page.keyboard.down(key);
    } else {
      await page.locator(selector).first().hover();
      await page.mouse.down();
    }
  },
  up: async (key) => { await (key ? page.keyboard.up(key) : page.mouse.up()); },
  // news waits until the script has asked twice for the list, so that it has seen
  // what was there before.
  news: async () => {
    for (let i = 0; i < 2; i += 1) {
      const r = await page.waitForResponse((a) => a.url().includes('/live?') && a.ok());
      await r.finished();
    }
  },
  press: async (...keys) => { for (const key of keys) await page.keyboard.press(key); },
  focused: async () => page.evaluate(() => document.activeElement?.textContent?.trim() ?? ''),
  fill: async (selector, value) => { await page.fill(selector, value); },
  value: async (selector) => page.inputValue(selector),
  href: async (selector) => page.locator(selector).first().getAttribute('href'),
  check: async (selector) => { await page.check(selector); },
  uncheck: async (selector) => { await page.uncheck(selector); },
  checked: async (selector) => page.locator(selector).isChecked(),
  // login clicks a link that opens the provider's page, signs in there, and
  // returns the scopes of the link.
  login: async (selector) => {
    const scope = new URL(await page.locator(selector).getAttribute('href')).searchParams.get('scope');
    const [tab] = await Promise.all([context.waitForEvent('page'), page.locator(selector).click()]);
    await tab.waitForLoadState('load');
    const opener = await tab.evaluate(() => window.opener === null && document.referrer === '');
    if (!opener) throw new Error('the provider learns of the dashboard');
    for (let i = 0; i < 6; i += 1) {
      if (await tab.locator('input[name=login]').count()) {
        await tab.fill('input[name=login]', 'alice');
        await Promise.all([tab.waitForEvent('framenavigated'), tab.click('button[name=go]')]);
      } else if (await tab.locator('button[name=allow]').count()) {
        await Promise.all([tab.waitForEvent('framenavigated'), tab.click('button[name=allow]')]);
      } else if ((await tab.locator('body').innerText()).includes('You can close this window')) {
        if (!(await tab.locator('body').innerText()).includes('The dashboard shows the result')) throw new Error('the last page sends the person to the terminal');
        await tab.close();
        return scope ?? '';
      }
      await tab.waitForLoadState('load');
    }
    throw new Error(`the login ended on a page that says: ${await tab.locator('body').innerText()}`);
  },
  // fetch asks from inside a page of the given origin.
  fetch: async (url, init) => page.evaluate(async ([u, i]) => {
    try {
      return (await fetch(u, i)).status;
    } catch (e) {
      return String(e);
    }
  }, [url, init]),
  // postFrom sends a form from a page of another origin, as a person's browser
  // would, and returns the status of the answer.
  postFrom: async (other, action, fields) => {
    const tab = await context.newPage();
    await tab.goto(other);
    const [answer] = await Promise.all([
      tab.waitForResponse((r) => r.url() === action),
      tab.evaluate(([a, f]) => {
        const form = document.createElement('form');
        Object.assign(form, { method: 'post', action: a });
        for (const [name, value] of Object.entries(f)) {
          form.append(Object.assign(document.createElement('input'), { name, value }));
        }
        document.body.append(form);
        form.submit();
      }, [action, fields]),
    ]);
    await tab.close();
    return answer.status();
  },
  // framed reports what a frame on a page of another origin shows.
  framed: async (other, url) => {
    const tab = await context.newPage();
    await tab.goto(other);
    await tab.evaluate((u) => new Promise((done) => {
      const frame = document.createElement('iframe');
      frame.onload = done;
      frame.src = u;
      document.body.append(frame);
    }), url);
    const frame = tab.frames()[1];
    const text = await frame.locator('body').innerText({ timeout: 2000 }).catch(() => '');
    await tab.close();
    return text;
  },
  // elsewhere serves a page on another port of 127.0.0.1, visits it at a path
  // and returns the cookies that it was sent.
  elsewhere: async () => {
    const sent = [];
    const server = http.createServer((req, res) => {
      sent.push(req.headers.cookie ?? '');
      res.setHeader('Content-Type', 'text/html');
      res.end('<!doctype html><title>other</title><p>other');
    }).listen(0, '127.0.0.1');
    await new Promise((done) => { server.on('listening', done); });
    const tab = await context.newPage();
    for (const path of ['/', '/api/me', '/style.css']) await tab.goto(`http://127.0.0.1:${server.address().port}${path}`);
    await tab.close();
    server.close();
    return sent.filter((c) => c !== '').length;
  },
  // look takes pictures and asks axe what is wrong, at each width and scheme.
  look: async (name, dir, widths) => {
    const found = [];
    for (const scheme of ['light', 'dark']) {
      await page.emulateMedia({ colorScheme: scheme });
      for (const width of widths) {
        await page.setViewportSize({ width, height: 800 });
        const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
        if (wide > 0) found.push(`${scheme} ${width}: ${wide} pixels too wide`);
        if (dir) await page.screenshot({ path: join(dir, `${name}-${width}-${scheme}.png`), fullPage: true });
      }
      await page.evaluate(axe);
      // Colours are all that differs in the other scheme.
      const options = { resultTypes: ['violations'], ...(scheme === 'dark' && { runOnly: ['color-contrast'] }) };
      const result = await page.evaluate((o) => window.axe.run(document, o), options);
      for (const v of result.violations) found.push(`${scheme}: ${v.impact} ${v.id}: ${v.nodes.map((n) => n.html).slice(0, 2).join(' ')}`);
    }
    await page.emulateMedia({ colorScheme: null });
    await page.setViewportSize({ width: 1024, height: 768 });
    return found;
  },
  seen: async () => ({ origins: [...asked], bodies: bodies.join('\n'), errors }),
};

process.stdout.write('{"value":"ready"}\n');
for await (const line of createInterface({ input: process.stdin })) {
  const [name, ...args] = JSON.parse(line);
  let answer;
  try {
    answer = { value: (await steps[name](...args)) ?? null };
  } catch (err) {
    answer = { error: `${name}: ${String(err.message)} (at ${new URL(page.url()).pathname.slice(33)})` };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
await browser.close();
rmSync(profile, { recursive: true, force: true });
