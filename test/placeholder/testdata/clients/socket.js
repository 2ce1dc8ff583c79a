// A WebSocket: the token goes in the handshake, then both sides talk.
'use strict';
const https = require('https');

const request = https.request(process.env.API + '/ws', {
  headers: {
    authorization: `Bearer ${process.env.SANDBOX_ACCESS_TOKEN}`,
    connection: 'Upgrade', upgrade: 'websocket', 'sec-websocket-version': '13', 'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
  },
});
request.on('response', (answer) => { throw new Error(`no upgrade: ${answer.statusCode}`); });
request.on('upgrade', (answer, socket) => {
  socket.on('data', (part) => {
    console.log(String(part));
    socket.end();
  });
  socket.write('ping');
});
request.end();
