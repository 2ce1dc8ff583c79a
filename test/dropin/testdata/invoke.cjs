// Calls a built function as the host did, and prints its answer as one line of JSON.
//
//   node invoke.cjs FILE
const { handler } = require(process.argv[2])

const event = {
  rawUrl: 'https://site.example/.netlify/functions/services', rawQuery: '', path: '/.netlify/functions/services', httpMethod: 'GET',
  headers: {}, multiValueHeaders: {}, queryStringParameters: {}, multiValueQueryStringParameters: {}, body: null, isBase64Encoded: false,
}
handler(event, {}).then(
  (answer) => process.stdout.write(JSON.stringify(answer) + '\n'),
  (error) => {
    console.error(error)
    process.exit(1)
  },
)
