// The fetch of Node.js itself, toward the API and toward a host that is not
// pinned.
'use strict';
(async () => {
  const bearer = { headers: { authorization: `Bearer ${process.env.SANDBOX_ACCESS_TOKEN}` } };
  const answer = await fetch(process.env.API + '/me', bearer);
  if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`);
  const other = await fetch(process.env.THIEF + '/other', { method: 'POST', body: 'plain' });
  if (!other.ok) throw new Error(`the other host: ${other.status}`);
  console.log((await answer.json()).name);
})();
