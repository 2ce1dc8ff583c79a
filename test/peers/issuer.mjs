// A real, certified authorization server (npm oidc-provider) on loopback for
// the end-to-end tests: code with PKCE, device flow, client credentials,
// refresh with rotation and reuse detection, revocation, introspection, both
// metadata documents, iss in the response. In front of it stands a small HTTP
// layer that counts token requests and injects faults.
//
//   node issuer.mjs '{"accessTTL":2}'
//
// prints one line of JSON when it is ready and ends when its standard input is
// closed, so that no process outlives the test that started it. The options are
// those of IssuerOptions in issuer.go.
import { X509Certificate, createHash, generateKeyPairSync, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import process from 'node:process';

const options = {
  auto: false, // sign in and allow without showing a page
  account: 'alice', // who signs in when auto
  rotate: true,
  accessTTL: 3600, // seconds
  refreshTTL: 14 * 24 * 3600, // seconds
  deviceTTL: 600, // seconds
  redirectURIs: [], // added to those of every browser client
  withholdScopes: [], // scopes that the person does not allow
  publicKey: null, // JWK of the clients that sign
  requirePAR: false, // no authorization request but a pushed one
  resource: '', // a resource indicator (RFC 8707) that there is
  mutual: null, // files in PEM: key, certificate, authority, registered (RFC 8705)
  ...JSON.parse(process.argv[2] || '{}'),
};

process.stdin.on('end', () => process.exit(0)).on('error', () => process.exit(0)).resume();

// The library warns on stderr and stdout about settings that matter in
// production only; the ready line must be the only thing on stdout.
for (const kind of ['info', 'log', 'warn']) console[kind] = () => {};
const { default: Provider, errors } = await import('oidc-provider');

const front = http.createServer();
await new Promise((done) => front.listen(0, '127.0.0.1', done));
const issuer = `http://127.0.0.1:${front.address().port}`;

// Clients with a certificate come here (RFC 8705). A certificate is asked for and
// not demanded: whether it does is the server's to say.
const mutual = options.mutual && https.createServer({
  key: readFileSync(options.mutual.key), cert: readFileSync(options.mutual.certificate), ca: readFileSync(options.mutual.authority),
  requestCert: true, rejectUnauthorized: false,
});
if (mutual) await new Promise((done) => mutual.listen(0, '127.0.0.1', done));
const mutualURL = mutual && `https://127.0.0.1:${mutual.address().port}`;

const redirectURIs = [
  'http://127.0.0.1/callback', 'http://127.0.0.1/callback/peer', 'http://[::1]/callback/peer',
  'http://localhost/callback/peer', ...options.redirectURIs,
];
// How the front layer tells the server of a certificate; from outside these headers
// are dropped.
const peerCertificate = 'x-peer-certificate';
const peerAuthorized = 'x-peer-authorized';
// The characters of the secret are the ones that RFC 6749 section 2.3.1 wants
// form-encoded inside Basic: a client that forgets it fails.
const secret = `p:${randomBytes(12).toString('hex')}/+%&= !`;
const browserClient = {
  application_type: 'native',
  grant_types: ['authorization_code', 'refresh_token', 'urn:ietf:params:oauth:grant-type:device_code'],
  response_types: ['code'],
  redirect_uris: [...new Set(redirectURIs)],
};
const machineClient = { grant_types: ['client_credentials'], response_types: [], redirect_uris: [] };
const clients = {
  public: { ...browserClient, client_id: 'native-public', token_endpoint_auth_method: 'none' },
  confidential: { ...browserClient, client_id: 'native-confidential', client_secret: secret, token_endpoint_auth_method: 'client_secret_basic' },
  post: { ...browserClient, client_id: 'native-post', client_secret: secret, token_endpoint_auth_method: 'client_secret_post' },
  paste: { ...browserClient, client_id: 'paste-public', token_endpoint_auth_method: 'none', redirect_uris: ['https://app.example.test/callback'] },
  machine: { ...machineClient, client_id: 'machine', client_secret: secret, token_endpoint_auth_method: 'client_secret_basic' },
  shared: { ...browserClient, client_id: 'native-shared', client_secret: randomBytes(24).toString('hex'), token_endpoint_auth_method: 'client_secret_jwt' },
};
if (options.publicKey) {
  const signs = { token_endpoint_auth_method: 'private_key_jwt', jwks: { keys: [options.publicKey] } };
  clients.signed = { ...browserClient, ...signs, client_id: 'native-signed' };
  clients.robot = { ...machineClient, ...signs, client_id: 'robot' };
}
if (mutual) {
  const registered = new X509Certificate(readFileSync(options.mutual.registered));
  clients.certified = { ...browserClient, client_id: 'native-certified', token_endpoint_auth_method: 'tls_client_auth', tls_client_auth_san_dns: 'app.example.test' };
  clients.bound = { ...clients.certified, client_id: 'native-bound', tls_client_certificate_bound_access_tokens: true };
  clients.registered = {
    ...browserClient, client_id: 'native-registered', token_endpoint_auth_method: 'self_signed_tls_client_auth',
    jwks: { keys: [{ ...registered.publicKey.export({ format: 'jwk' }), use: 'sig', x5c: [registered.raw.toString('base64')] }] },
  };
}
const scopes = ['openid', 'offline_access', 'profile', 'email', 'api:read', 'api:write'];

const provider = new Provider(issuer, {
  clients: Object.values(clients),
  clientDefaults: { id_token_signed_response_alg: 'ES256' },
  jwks: { keys: [{ ...generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ format: 'jwk' }), use: 'sig', alg: 'ES256', kid: 'test' }] },
  cookies: { keys: [randomBytes(16).toString('hex')] },
  scopes,
  claims: { openid: ['sub'], profile: ['name', 'preferred_username'], email: ['email'] },
  pkce: { required: () => true },
  ...(mutual && {
    clientAuthMethods: ['none', 'client_secret_basic', 'client_secret_post', 'client_secret_jwt', 'private_key_jwt', 'tls_client_auth', 'self_signed_tls_client_auth'],
    discovery: {
      mtls_endpoint_aliases: {
        token_endpoint: `${mutualURL}/token`, revocation_endpoint: `${mutualURL}/token/revocation`, introspection_endpoint: `${mutualURL}/token/introspection`,
        device_authorization_endpoint: `${mutualURL}/device/auth`, pushed_authorization_request_endpoint: `${mutualURL}/request`,
        userinfo_endpoint: `${mutualURL}/me`,
      },
    },
  }),
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    pushedAuthorizationRequests: { enabled: true, requirePushedAuthorizationRequests: options.requirePAR },
    resourceIndicators: {
      enabled: Boolean(options.resource),
      defaultResource: () => [],
      useGrantedResource: () => true,
      getResourceServerInfo: (ctx, resource) => {
        if (resource !== options.resource) throw new errors.InvalidTarget();
        return { scope: 'api:read api:write', audience: resource, accessTokenFormat: 'jwt', jwt: { sign: { alg: 'ES256' } } };
      },
    },
    mTLS: {
      enabled: Boolean(mutual), certificateBoundAccessTokens: Boolean(mutual), tlsClientAuth: Boolean(mutual), selfSignedTlsClientAuth: Boolean(mutual),
      getCertificate: (ctx) => { const der = ctx.get(peerCertificate); return der ? new X509Certificate(Buffer.from(der, 'base64')) : undefined; },
      certificateAuthorized: (ctx) => ctx.get(peerAuthorized) === 'yes',
      certificateSubjectMatches: (ctx, property, expected) => property === 'tls_client_auth_san_dns'
        && new X509Certificate(Buffer.from(ctx.get(peerCertificate), 'base64')).subjectAltName === `DNS:${expected}`,
    },
    introspection: { enabled: true },
    revocation: { enabled: true },
    deviceFlow: {
      enabled: true,
      userCodeInputSource: (ctx, form, out, err) => {
        ctx.body = page('Connect a device', `${err ? '<p>That code is not known.</p>' : ''}${form}<button type="submit" form="op.deviceInputForm">Continue</button>`);
      },
      userCodeConfirmSource: (ctx, form, client, info, code) => {
        ctx.body = page('Confirm the device', `<p><code>${escape(code)}</code></p>${form}<button type="submit" form="op.deviceConfirmForm">Continue</button>`);
      },
      successSource: (ctx) => { ctx.body = page('Device connected', '<p id="done">You can close this page.</p>'); },
    },
  },
  interactions: { url: (ctx, interaction) => `/interaction/${interaction.uid}` },
  findAccount: (ctx, id) => ({ accountId: id, claims: () => ({ sub: id, name: `Test ${id}`, preferred_username: id, email: `${id}@example.test` }) }),
  issueRefreshToken: (ctx, client) => client.grantTypeAllowed('refresh_token'),
  expiresWithSession: () => false,
  rotateRefreshToken: () => options.rotate,
  renderError: (ctx, out) => { ctx.body = page('Not possible', `<p id="done">${escape(out.error)}: ${escape(out.error_description ?? '')}</p>`); },
  ttl: {
    AccessToken: () => options.accessTTL,
    ClientCredentials: () => options.accessTTL,
    RefreshToken: () => options.refreshTTL,
    DeviceCode: () => options.deviceTTL,
    AuthorizationCode: 60,
    Grant: options.refreshTTL,
    IdToken: 3600,
    Interaction: 600,
    Session: 3600,
  },
});

// certificates counts requests that came with one, by path; requests counts what
// arrived; granted and refused what came of it; faults
// what the front layer answered or dropped by itself.
const stats = { requests: {}, certificates: {}, tokens: {}, granted: {}, refused: {}, faults: 0, revoked: 0, reused: 0 };
const count = (table, key) => { table[key] = (table[key] ?? 0) + 1; };
provider.on('grant.success', (ctx) => count(stats.granted, ctx.oidc.params.grant_type));
provider.on('grant.error', (ctx, err) => count(stats.refused, `${ctx.oidc?.params?.grant_type ?? '?'} ${err.error ?? err.name}`));
provider.on('grant.revoked', () => { stats.revoked += 1; });
provider.on('grant.error', (ctx, err) => { if (/already used|consumed/.test(err.error_detail ?? '')) stats.reused += 1; });

function escape(text) {
  return String(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
}

function page(title, body) {
  return `<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>${escape(title)}</title><h1>${escape(title)}</h1>${body}</html>`;
}

function answer(res, status, body, headers = {}) {
  const json = typeof body !== 'string';
  res.writeHead(status, { 'content-type': json ? 'application/json' : 'text/html; charset=utf-8', 'cache-control': 'no-store', ...headers });
  res.end(json ? JSON.stringify(body) : body);
}

function read(stream) {
  return new Promise((done, fail) => {
    const chunks = [];
    stream.on('data', (c) => chunks.push(c)).on('end', () => done(Buffer.concat(chunks))).on('error', fail);
  });
}

// interaction shows the login and the consent page, and finishes what they send.
async function interaction(req, res, path) {
  const { prompt, params, session, grantId } = await provider.interactionDetails(req, res);
  const here = path.split('/').slice(0, 3).join('/');
  let form = null;
  if (req.method === 'POST') form = new URLSearchParams((await read(req)).toString());
  else if (options.auto) form = new URLSearchParams({ login: options.account, allow: 'yes' });
  if (form?.has('deny')) {
    return provider.interactionFinished(req, res, { error: 'access_denied', error_description: 'the person said no' });
  }
  if (prompt.name === 'login') {
    if (form?.get('login')) {
      return provider.interactionFinished(req, res, { login: { accountId: form.get('login') } });
    }
    return answer(res, 200, page('Sign in', `<form method="post" action="${here}">
<label>Name <input name="login" type="text" autofocus required></label>
<button type="submit" name="go" value="yes">Sign in</button></form>`));
  }
  if (form?.has('allow')) {
    const grant = (grantId && await provider.Grant.find(grantId)) || new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
    const { missingOIDCScope = [], missingOIDCClaims = [], missingResourceScopes = {} } = prompt.details;
    const allowed = missingOIDCScope.filter((s) => !options.withholdScopes.includes(s));
    const withheld = missingOIDCScope.filter((s) => options.withholdScopes.includes(s));
    if (allowed.length) grant.addOIDCScope(allowed.join(' '));
    if (withheld.length) grant.rejectOIDCScope(withheld.join(' '));
    if (missingOIDCClaims.length) grant.addOIDCClaims(missingOIDCClaims);
    for (const [resource, list] of Object.entries(missingResourceScopes)) grant.addResourceScope(resource, list.join(' '));
    return provider.interactionFinished(req, res, { consent: { grantId: await grant.save() } }, { mergeWithLastSubmission: true });
  }
  return answer(res, 200, page('Allow access?', `<p>${escape(params.client_id)} asks for</p>
<ul>${String(params.scope ?? '').split(' ').map((s) => `<li>${escape(s)}</li>`).join('')}</ul>
<form method="post" action="${here}"><button type="submit" name="allow" value="yes">Allow</button>
<button type="submit" name="deny" value="yes">Deny</button></form>`));
}

// api is the resource server: it looks every token up, so a revoked one is dead.
async function api(req, res, path) {
  const value = /^Bearer ([^ ]+)$/i.exec(req.headers.authorization ?? '')?.[1];
  const token = value && (await provider.AccessToken.find(value) ?? await provider.ClientCredentials.find(value));
  const certificate = req.headers[peerCertificate];
  const thumbprint = certificate && createHash('sha256').update(Buffer.from(certificate, 'base64')).digest('base64url');
  if (!token?.isValid || token['x5t#S256'] && token['x5t#S256'] !== thumbprint) {
    return answer(res, 401, { error: 'invalid_token' }, { 'www-authenticate': 'Bearer error="invalid_token"' });
  }
  const body = await read(req);
  return answer(res, 200, {
    path, method: req.method, sub: token.accountId ?? null, client_id: token.clientId, scope: token.scope ?? '', bytes: body.length,
  });
}

const callback = provider.callback();
const inner = http.createServer((req, res) => {
  const { pathname } = new URL(req.url, issuer);
  const run = pathname.startsWith('/interaction/') ? interaction : pathname.startsWith('/api/') ? api : callback;
  Promise.resolve(run(req, res, pathname)).catch((err) => {
    if (!res.headersSent) answer(res, 400, page('Not possible', `<p id="done">${escape(err.message)}</p>`));
  });
});
await new Promise((done) => inner.listen(0, '127.0.0.1', done));

// faults is the list of what goes wrong next, one entry per fault.
let faults = [];
function takeFault(path) {
  const fault = faults.find((f) => f.path === path);
  if (!fault) return null;
  fault.count -= 1;
  faults = faults.filter((f) => f.count > 0);
  stats.faults += 1;
  return fault;
}

function forward(req, body) {
  return new Promise((done, fail) => {
    const out = http.request({ host: '127.0.0.1', port: inner.address().port, method: req.method, path: req.url, headers: { ...req.headers, 'content-length': body.length }, setHost: false, agent: false }, async (res) => {
      try { done({ status: res.statusCode, headers: res.headers, body: await read(res) }); } catch (err) { fail(err); }
    });
    out.on('error', fail).end(body);
  });
}

async function serve(req, res) {
  try {
    delete req.headers[peerCertificate];
    delete req.headers[peerAuthorized];
    const presented = req.socket.getPeerCertificate?.().raw;
    if (presented) {
      req.headers[peerCertificate] = presented.toString('base64');
      req.headers[peerAuthorized] = req.socket.authorized ? 'yes' : 'no';
      count(stats.certificates, req.url);
    }
    if (mutual) req.headers.host = new URL(issuer).host;
    const { pathname } = new URL(req.url, issuer);
    const body = await read(req);
    if (pathname === '/__stats') return answer(res, 200, stats);
    if (pathname === '/__fault' && req.method === 'POST') {
      const fault = { path: '/token', count: 1, ...JSON.parse(body.toString()) };
      if (fault.mode === 'clear') faults = []; else faults.push(fault);
      return answer(res, 200, { pending: faults.length });
    }
    if (pathname === '/__options' && req.method === 'POST') {
      Object.assign(options, JSON.parse(body.toString()));
      return answer(res, 200, {});
    }
    count(stats.requests, pathname.replace(/^\/(interaction|auth|device)\/[\w-]{21,}$/, '/$1/*'));
    if (pathname === '/token') count(stats.tokens, new URLSearchParams(body.toString()).get('grant_type') ?? '?');
    const fault = takeFault(pathname);
    switch (fault?.mode) {
      case undefined: break;
      case 'drop-before-commit': return req.socket.destroy();
      case 'drop-after-commit': await forward(req, body); return req.socket.destroy();
      case 'truncate': {
        const sent = await forward(req, body);
        res.writeHead(sent.status, { ...sent.headers, 'content-length': sent.body.length });
        res.write(sent.body.subarray(0, sent.body.length >> 1), () => req.socket.destroy());
        return;
      }
      case '429': return answer(res, 429, { error: 'temporarily_unavailable' }, { 'retry-after': String(fault.retryAfter ?? 1) });
      case '500': return answer(res, 500, { error: 'server_error' });
      case '503': return answer(res, 503, { error: 'temporarily_unavailable' }, fault.retryAfter ? { 'retry-after': String(fault.retryAfter) } : {});
      case 'html': return answer(res, 200, page('Maintenance', '<p>Back soon.</p>'));
      case 'invalid_grant': return answer(res, 400, { error: 'invalid_grant' });
      case 'delay': await new Promise((done) => { setTimeout(done, fault.ms ?? 1000); }); break;
      case 'hang': return; // until the client gives up or the test ends
      default: return answer(res, 500, { error: `unknown fault ${fault.mode}` });
    }
    const sent = await forward(req, body);
    res.writeHead(sent.status, sent.headers);
    res.end(sent.body);
  } catch {
    req.socket.destroy();
  }
}
front.on('request', serve);
mutual?.on('request', serve);

process.stdout.write(`${JSON.stringify({
  issuer,
  api: `${issuer}/api/`,
  mutual: mutualURL ?? '',
  scopes,
  clients: Object.fromEntries(Object.entries(clients).map(([name, c]) => [name, { id: c.client_id, secret: c.client_secret ?? '', method: c.token_endpoint_auth_method }])),
})}\n`);
