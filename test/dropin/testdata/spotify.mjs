// Uses the published Spotify SDK as a program would, and prints what it gives, or
// throws, as one line of JSON.
//
//   node spotify.mjs token FILE      the SDK with the token that apiauth printed
//   node spotify.mjs proxy           the SDK through 'apiauth proxy'
import { createRequire } from 'node:module'
import { readFileSync } from 'node:fs'

const require = createRequire(process.env.NODE_PATH + '/')
const { SpotifyApi } = require('@spotify/web-api-ts-sdk')

const [how, file] = process.argv.slice(2)
const here = process.env.SPOTIFY_STAND_IN // where the stand-in's API is
const asked = []

const ways = {
  token: () => {
    const token = JSON.parse(readFileSync(file, 'utf8'))
    const api = SpotifyApi.withAccessToken('client', token, {
      fetch: (url, options) => {
        asked.push(url)
        return fetch(url.replace('https://api.spotify.com', here), options)
      },
    })
    return api.currentUser.profile()
  },
  proxy: () => {
    const base = process.env.APIAUTH_PROXY_URL + '/spotify'
    const key = process.env.APIAUTH_PROXY_KEY
    // The SDK takes the key of the proxy as its token: it never sees another.
    const api = SpotifyApi.withAccessToken('client', { access_token: key, token_type: 'Bearer', expires_in: 3600, refresh_token: '' }, {
      fetch: (url, options) => {
        asked.push(url)
        return fetch(url.replace('https://api.spotify.com/v1', base), options)
      },
    })
    return api.currentUser.profile()
  },
}

try {
  const profile = await ways[how]()
  process.stdout.write(JSON.stringify({ id: profile.id, asked }) + '\n')
} catch (error) {
  process.stdout.write(JSON.stringify({ error: error.message, asked }) + '\n')
}
