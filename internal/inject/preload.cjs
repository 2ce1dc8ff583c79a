'use strict';
// Makes http, https and fetch use the proxy that HTTPS_PROXY names, where Node.js
// does not do so by itself: before 22.21, and 23.0 to 24.4. Later ones obey
// NODE_USE_ENV_PROXY, but in fetch and their own agents only, so that agents which
// a program makes are left to this file in all of them. It is loaded through
// NODE_OPTIONS and knows no more than the environment does.
(() => {
  const [major, minor] = process.versions.node.split('.').map(Number);
  const able = major > 24 || (major === 24 && minor >= 5) || (major === 22 && minor >= 21);

  let proxy;
  try {
    proxy = new URL(process.env.HTTPS_PROXY || process.env.https_proxy);
  } catch {
    return;
  }
  if (proxy.protocol !== 'http:' || !proxy.port) return;

  const http = require('http');
  const https = require('https');
  const net = require('net');
  const tls = require('tls');

  const own = [http.globalAgent, https.globalAgent];
  const byItself = (agent) => able && (own.includes(agent) || Boolean(agent.options && agent.options.proxyEnv));

  const authorization = 'Basic ' + Buffer.from(
    decodeURIComponent(proxy.username) + ':' + decodeURIComponent(proxy.password)).toString('base64');
  const direct = (process.env.NO_PROXY || process.env.no_proxy || '').toLowerCase()
    .split(/[\s,]+/).filter(Boolean).map((name) => name.replace(/^\[|\]$/g, ''));
  const bare = (host) => String(host || 'localhost').toLowerCase().replace(/^\[|\]$/g, '');
  const goesDirect = (host) => direct.some((name) => name === '*' || name === bare(host) ||
    (name.startsWith('.') && bare(host).endsWith(name)));
  const withPort = (host, port) => (net.isIPv6(bare(host)) ? `[${bare(host)}]` : bare(host)) + ':' + port;

  // tunnel asks the proxy for a connection to host:port.
  function tunnel(host, port, done) {
    const target = withPort(host, port);
    const ask = http.request({
      host: proxy.hostname, port: proxy.port, method: 'CONNECT', path: target, agent: false,
      headers: { host: target, 'proxy-authorization': authorization },
    });
    ask.once('connect', (answer, socket, head) => {
      if (answer.statusCode !== 200) {
        socket.destroy();
        done(new Error(`the proxy answered ${answer.statusCode} for ${target}`));
        return;
      }
      if (head.length) socket.unshift(head);
      done(null, socket);
    });
    ask.once('error', done);
    ask.end();
  }

  // https: every agent, the ones that programs make included.
  const connectSecurely = https.Agent.prototype.createConnection;
  https.Agent.prototype.createConnection = function createConnection(options, done) {
    if (options === null || typeof options !== 'object' || typeof done !== 'function' ||
        byItself(this) || options.socketPath || options.socket || goesDirect(options.host)) {
      return connectSecurely.apply(this, arguments);
    }
    tunnel(options.host, options.port || 443, (error, socket) => {
      if (error) done(error);
      else done(null, connectSecurely.call(this, { ...options, path: undefined, socket }));
    });
    return undefined;
  };

  // http: the request goes to the proxy in absolute form (RFC 9112 section 3.2.2).
  const addRequest = http.Agent.prototype.addRequest;
  http.Agent.prototype.addRequest = function (request, options, ...rest) {
    const host = options && (options.host || options.hostname);
    if (this instanceof https.Agent || request.method === 'CONNECT' || !options || options.socketPath ||
        byItself(this) || this.protocol !== 'http:' || goesDirect(host)) {
      return addRequest.call(this, request, options, ...rest);
    }
    const port = options.port || 80;
    request.path = 'http://' + (Number(port) === 80 ? withPort(host, port).replace(/:80$/, '') : withPort(host, port)) + request.path;
    if (request._header) { // written ahead, as with Expect, and it may wait to be sent
      const written = request._header;
      request._header = `${request.method} ${request.path} HTTP/1.1\r\nProxy-Authorization: ${authorization}` +
        written.slice(written.indexOf('\r\n'));
      const first = request.outputData && request.outputData[0];
      if (first && String(first.data).startsWith(written)) {
        first.data = request._header + String(first.data).slice(written.length);
      }
    } else {
      request.setHeader('Proxy-Authorization', authorization);
    }
    return addRequest.call(this, request, { ...options, host: proxy.hostname, hostname: proxy.hostname, port: proxy.port }, ...rest);
  };

  // fetch: its client is made at the first call, as loading it takes a while.
  const plainFetch = globalThis.fetch;
  if (able || typeof plainFetch !== 'function') return;
  const key = Symbol.for('undici.globalDispatcher.1');

  function connect(options, done) {
    const secure = options.protocol === 'https:';
    const host = bare(options.hostname);
    const port = options.port || (secure ? 443 : 80);
    const ready = (socket, event) => {
      socket.once('error', done);
      socket.once(event, () => {
        socket.removeListener('error', done);
        done(null, socket);
      });
    };
    const secured = (socket) => ready(tls.connect({
      socket, host, servername: options.servername || (net.isIP(host) ? '' : host), ALPNProtocols: ['http/1.1'],
    }), 'secureConnect');
    if (secure && !goesDirect(host)) {
      tunnel(host, port, (error, socket) => (error ? done(error) : secured(socket)));
    } else if (secure) {
      secured(net.connect({ host, port }));
    } else {
      ready(net.connect({ host, port }), 'connect');
    }
  }

  function route() {
    if (!globalThis[key]) plainFetch('data:,').catch(() => {});
    const own = globalThis[key];
    if (!own || own.constructor.name !== 'Agent') return; // the program has one of its own
    class Routed extends own.constructor {
      dispatch(options, handler) {
        const origin = options.origin && new URL(options.origin);
        if (!origin || origin.protocol !== 'http:' || goesDirect(origin.hostname)) return super.dispatch(options, handler);
        const more = ['proxy-authorization', authorization, 'host', origin.host];
        let headers = options.headers || [];
        if (!Array.isArray(headers)) {
          headers = typeof headers[Symbol.iterator] === 'function' ? [...headers].flat() : Object.entries(headers).flat();
        }
        return super.dispatch({ ...options, origin: proxy.origin, path: origin.origin + options.path, headers: [...headers, ...more] }, handler);
      }
    }
    globalThis[key] = new Routed({ connect });
  }

  let routed = false;
  Object.defineProperty(globalThis, 'fetch', {
    configurable: true, enumerable: true, writable: true,
    value: function fetch(input, init = undefined) {
      if (!routed) {
        routed = true;
        route();
      }
      return plainFetch(input, init);
    },
  });
})();
