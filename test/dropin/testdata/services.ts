// A function as people wrote them for the hosted system: which services does this
// site reach, and as whom? It knows nothing of apiauth.
import { Handler, HandlerEvent, HandlerResponse, NetlifySecrets, getSecrets } from '@netlify/functions'

interface Row {
  service: string
  isLoggedIn: boolean
  scopes: string[]
  account?: string
}

const github: string = process.env.GITHUB_API_URL ?? 'https://api.github.com'
const spotify: string = process.env.SPOTIFY_API_URL ?? 'https://api.spotify.com/v1'

const ask = async <T>(url: string, token: string): Promise<T> => {
  const answer = await fetch(url, { headers: { Authorization: `Bearer ${token}`, Accept: 'application/json' } })
  if (!answer.ok) {
    throw new Error(`${url} answers ${answer.status}`)
  }
  return (await answer.json()) as T
}

const reply = (statusCode: number, doc: unknown): HandlerResponse => ({
  statusCode,
  headers: { 'Content-Type': 'application/json' },
  body: JSON.stringify(doc),
})

const handler: Handler = async (event: HandlerEvent) => {
  let secrets: NetlifySecrets = {}
  secrets = await getSecrets(event)

  const rows: Row[] = Object.values(secrets).map((secret) => ({
    service: secret!.friendlyServiceName,
    isLoggedIn: secret!.isLoggedIn,
    scopes: (secret!.grantedScopes ?? []).map(({ scope }) => scope),
  }))
  const row = (name: string) => rows.find(({ service }) => service === name)

  if (secrets.gitHub?.bearerToken) {
    row('GitHub')!.account = (await ask<{ login: string }>(`${github}/user`, secrets.gitHub.bearerToken)).login
  }
  if (secrets.spotify?.isLoggedIn && secrets.spotify.bearerToken) {
    row('Spotify')!.account = (await ask<{ id: string }>(`${spotify}/me`, secrets.spotify.bearerToken)).id
  }
  if (!secrets.gitHub?.bearerToken && !secrets.spotify?.bearerToken) {
    return reply(412, { error: 'This site is logged in nowhere.', services: rows })
  }
  return reply(200, { services: rows })
}

export { handler }
