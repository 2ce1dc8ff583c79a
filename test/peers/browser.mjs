// A person with a browser: opens the address given as the first argument in
// Chromium, signs in, allows, waits for the page that the login ends on, and
// prints that page's text.
//
//   APIAUTH_TEST_BROWSER=settings.json node browser.mjs https://...
//
// The settings are those of browser.go. When they name a socket, what happens
// is told there, one line of JSON each, and the browser closes when the other
// side does, so that it never outlives the test. A failure leaves a screenshot.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { chromium } from 'playwright-core';

const settings = {
  account: 'alice',
  deny: false,
  stay: false,
  userCode: '',
  chromium: '/usr/bin/chromium',
  artifacts: process.env.APIAUTH_TEST_ARTIFACTS ?? '',
  name: 'browser',
  socket: '',
  timeout: 30000, // milliseconds
  ...(process.env.APIAUTH_TEST_BROWSER ? JSON.parse(readFileSync(process.env.APIAUTH_TEST_BROWSER, 'utf8')) : {}),
};
const address = process.argv[2];

let browser;
let profile;
let ending;
// end closes everything once, whoever asks first.
function end(code) {
  ending ??= (async () => {
    const limit = setTimeout(() => process.exit(code), 5000);
    await browser?.close().catch(() => {});
    if (profile) rmSync(profile, { recursive: true, force: true });
    clearTimeout(limit);
    process.exit(code);
  })();
  return ending;
}

let tell = () => {};
if (settings.socket) {
  const socket = net.connect({ path: settings.socket, allowHalfOpen: true });
  socket.on('end', () => end(1)).on('error', () => end(1)).resume();
  tell = (message) => new Promise((done) => { socket.write(`${JSON.stringify(message)}\n`, done); });
}
for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP']) process.on(signal, () => end(1));
await tell({ event: 'start', pid: process.pid, url: address ?? '' });

let page;
try {
  const start = new URL(address);
  if (!/^https?:$/.test(start.protocol)) throw new Error(`will not open ${start.protocol}`);
  profile = mkdtempSync(join(tmpdir(), 'profile-'));
  browser = await chromium.launch({
    executablePath: settings.chromium,
    headless: true,
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage'],
    env: { PATH: process.env.PATH, HOME: profile, XDG_CONFIG_HOME: profile, XDG_CACHE_HOME: profile, LANG: 'C.UTF-8' },
    handleSIGINT: false, handleSIGTERM: false, handleSIGHUP: false,
  });
  page = await (await browser.newContext({ viewport: { width: 900, height: 700 } })).newPage();
  page.setDefaultTimeout(settings.timeout);
  await page.goto(start.href, { waitUntil: 'load' });
  for (let step = 0; step < 12; step += 1) {
    const here = new URL(page.url());
    if (here.origin !== start.origin || settings.stay) break;
    if (await page.locator('#done').count()) break;
    // A page that goes on by itself (a form sent by a script) is waited for.
    const ask = page.locator('input[name=login], input[name=user_code]:not([type=hidden]), button[name=allow], button[form="op.deviceConfirmForm"], #done').first();
    await Promise.race([
      ask.waitFor({ state: 'attached' }),
      page.waitForURL((u) => u.origin !== start.origin),
    ]);
    if (new URL(page.url()).origin !== start.origin || await page.locator('#done').count()) continue;
    const leave = page.waitForEvent('framenavigated');
    if (await page.locator('input[name=login]').count()) {
      await page.fill('input[name=login]', settings.account);
      await page.click('button[name=go]');
    } else if (await page.locator('input[name=user_code]:not([type=hidden])').count()) {
      if (settings.userCode) await page.fill('input[name=user_code]', settings.userCode);
      await page.click('button[type=submit]');
    } else if (await page.locator('button[name=allow]').count()) {
      await page.click(settings.deny ? 'button[name=deny]' : 'button[name=allow]');
    } else {
      await page.click('button[form="op.deviceConfirmForm"]');
    }
    await leave;
    await page.waitForLoadState('load');
  }
  await page.waitForLoadState('load');
  const text = await page.locator('body').innerText();
  if (settings.artifacts && settings.screenshot) await page.screenshot({ path: join(settings.artifacts, `${settings.name}.png`) });
  await tell({ event: 'done', url: page.url(), title: await page.title(), text });
  process.stdout.write(`${text}\n`);
  await end(0);
} catch (err) {
  if (ending) await ending;
  let shot = '';
  if (page && settings.artifacts) {
    shot = join(settings.artifacts, `${settings.name}.png`);
    await page.screenshot({ path: shot }).catch(() => { shot = ''; });
  }
  // The address holds the state, and later the code: only where it led is told.
  let where = 'no page';
  try { where = new URL(page.url()).origin + new URL(page.url()).pathname; } catch { /* no page */ }
  const why = String(err.message).split('\n')[0].replace(/\?[^\s"']*/g, '?...');
  await tell({ event: 'failed', error: `${why} (at ${where})`, screenshot: shot });
  process.stderr.write(`browser: ${why} (at ${where})${shot ? `, see ${shot}` : ''}\n`);
  await end(1);
}
