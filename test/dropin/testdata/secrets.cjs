// Calls the published package as a program would that was written for the
// hosted system, and prints what it returned or rejected with, as one line of JSON.
//
//   node secrets.cjs VERSION CALL
const [version, call] = process.argv.slice(2)
const lib = require(`netlify-functions-${version}`)
const seen = []
console.error = (...args) => seen.push(args.join(' '))

const run = {
  event: () => lib.getSecrets({ headers: {} }),
  none: () => lib.getSecrets(),
  header: () => lib.getSecrets({ headers: { 'X-Nf-Graph-Token': process.env.SITE_TOKEN } }),
  lowHeader: () => lib.getSecrets({ headers: { 'x-nf-graph-token': [process.env.SITE_TOKEN] } }),
  headers: () => lib.getSecrets({ headers: new Headers({ 'X-Nf-Graph-Token': process.env.SITE_TOKEN }) }),
  authlify: () => lib.getSecrets({ headers: {}, authlifyToken: process.env.SITE_TOKEN, _oneGraph: { authlifyToken: process.env.SITE_TOKEN } }),
  graphOnly: () => lib.getSecrets({ headers: {}, netlifyGraphToken: process.env.SITE_TOKEN }),
  build: () => lib.getSecretsForBuild(),
  handler: () => new Promise((resolve, reject) => {
    const handler = lib.withSecrets(async (event, context) => ({ statusCode: 200, body: JSON.stringify(context.secrets) }))
    handler({ headers: {} }, {}).then((answer) => resolve(JSON.parse(answer.body)), reject)
  }),
}[call]

const print = (doc) => process.stdout.write(JSON.stringify({ ...doc, said: seen }) + '\n')
run().then((secrets) => print({ secrets }), (error) => print({ rejected: error.message }))
