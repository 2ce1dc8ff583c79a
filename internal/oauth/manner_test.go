package oauth

import (
	"errors"
	"testing"

	"github.com/apiauth/apiauth/internal/secret"
)

// What providers want, and what comes of it, is seen in the room sandbox/fakes.
// Here is what is never sent.
func TestRevokeSoSendsNothing(t *testing.T) {
	s := newRecord(t, nil)
	key := Client{ID: "id", Secret: secret.New(canary), Method: AuthPrivateKeyJWT}
	both := Client{ID: "id", Secret: secret.New("cs"), Method: AuthPost}
	for name, r := range map[string]RevokeRequest{
		"a key in place of a secret":          {Client: key, Access: secret.New("a"), Manner: Manner{Auth: AuthPost}},
		"a key as a password":                 {Client: key, Access: secret.New("a"), Manner: Manner{Auth: AuthBasic}},
		"a client without a secret":           {Client: Client{ID: "id", Method: AuthPost}, Access: secret.New("a")},
		"no refresh token":                    {Client: both, Access: secret.New("a"), Manner: Manner{Token: "refresh_token"}},
		"no access token":                     {Client: both, Refresh: secret.New("r"), Manner: Manner{Auth: AuthBearer}},
		"a token that would be two headers":   {Client: both, Access: secret.New("a\r\nX: " + canary), Manner: Manner{Auth: AuthBearer}},
		"a parameter that comes twice":        {Client: both, Access: secret.New("a"), Manner: Manner{Params: map[string]string{"client_id": "x"}}},
		"a query beside that of the endpoint": {Client: both, Endpoint: s.URL + "/r?a=b", Access: secret.New("a"), Manner: Manner{Format: FormatQuery}},
		"a format that is not known":          {Client: both, Access: secret.New("a"), Manner: Manner{Format: "xml"}},
	} {
		r.Style, r.AllowInsecureLoopback, r.Manner.Method = "request", true, "POST"
		if r.Endpoint == "" {
			r.Endpoint = s.URL + "/r"
		}
		err := newHTTP(t, Options{}).Revoke(t.Context(), r)
		if !errors.Is(err, ErrNoRevocation) && !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil {
			checkSafe(t, err)
		}
	}
	if got := s.lines(); len(got) > 0 {
		t.Errorf("sent %q", got)
	}
}
