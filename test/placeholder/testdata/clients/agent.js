// https.request through an agent of the program's own, twice on one connection.
'use strict';
const https = require('https');

const agent = new https.Agent({ keepAlive: true, maxSockets: 1 });
function call(left) {
  https.get(process.env.API + '/me', { agent, headers: { authorization: `Bearer ${process.env.SANDBOX_ACCESS_TOKEN}` } }, (answer) => {
    let text = '';
    answer.on('data', (part) => { text += part; });
    answer.on('end', () => {
      if (answer.statusCode !== 200) throw new Error(`${answer.statusCode} ${text}`);
      if (left > 0) return call(left - 1);
      console.log(JSON.parse(text).name);
      return agent.destroy();
    });
  });
}
call(1);
