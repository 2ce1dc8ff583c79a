// The sample of the hosted system's documentation, as it stood there.
import { Handler, getSecrets } from "@netlify/functions";

const handler: Handler = async (event, context) => {
  const secrets = await getSecrets(event);

  const spotifyStatus = secrets.spotify?.isLoggedIn ? "logged in" : "not logged in";

  return {
    statusCode: 200,
    body: JSON.stringify({ spotify: spotifyStatus }),
    headers: { "Content-Type": "application/json" },
  };
};

export { handler };
