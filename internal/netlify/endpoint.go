// Package netlify is the end point that the published npm package
// @netlify/functions, 0.9.0 to 1.4.0, asks for tokens, and the site tokens that
// open it. The hosted system that answered there was switched off in 2023; a
// program that was written for it runs again against this one, unchanged.
package netlify

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/apiauth/apiauth/internal/secret"
)

// Hosts are the hosts that the versions of the package have built in: the first
// two releases of getSecrets asked serve.onegraph.com, those from 1.1.0 on
// graph.netlify.com.
func Hosts() []string { return []string{"graph.netlify.com", "serve.onegraph.com"} }

// maxRequest is more than the package's only query needs, in bytes.
const maxRequest = 64 << 10

// Endpoint answers the package's only query. It is safe for concurrent use.
type Endpoint struct {
	// Check tells whose a site token is, or returns an error that wraps
	// ErrToken.
	Check func(token secret.Text) (Site, error)
	// Secrets returns the elements of loggedInServices for a site: objects with
	// the five members that the package asks for.
	Secrets func(ctx context.Context, site Site) ([]json.RawMessage, error)
	// Log receives one line for each answer; it may be nil. No line holds a
	// token or anything of the request.
	Log func(line string)
}

// ServeHTTP answers POST /graphql. Every answer but 200 ends the connection: the
// package does not read the body of one, and its process waits until the
// server closes.
func (e *Endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	status, body := e.answer(r)
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Type", "application/json")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if status != http.StatusOK {
		h.Set("Connection", "close")
	}
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

func (e *Endpoint) answer(r *http.Request) (status int, body []byte) {
	refuse := func(status int, why string) (int, []byte) {
		e.log("getSecrets: " + why)
		doc, _ := json.Marshal(map[string]any{"data": nil, "errors": []any{map[string]string{"message": why}}})
		return status, doc
	}
	switch {
	case r.URL.Path != "/graphql":
		return refuse(http.StatusNotFound, "only /graphql is answered here")
	case r.Method != http.MethodPost:
		return refuse(http.StatusMethodNotAllowed, "only POST is answered here")
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return refuse(http.StatusUnsupportedMediaType, "the request is not application/json")
	}
	bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return refuse(http.StatusUnauthorized, "the request has no site token")
	}
	site, err := e.Check(secret.New(bearer))
	if err != nil {
		return refuse(http.StatusUnauthorized, "the site token is unknown, ended or revoked")
	}
	// app_id is the site's id, or the text undefined where the program has none.
	if id := r.URL.Query().Get("app_id"); id != "" && id != "undefined" && id != site.ID {
		return refuse(http.StatusForbidden, "the site token is one of another site")
	}
	data, err := io.ReadAll(io.LimitReader(r.Body, maxRequest+1))
	if err != nil || len(data) > maxRequest {
		return refuse(http.StatusRequestEntityTooLarge, "the request is too large")
	}
	var query struct {
		Query string `json:"query"`
	}
	if json.Unmarshal(data, &query) != nil || !strings.Contains(query.Query, "loggedInServices") {
		return refuse(http.StatusBadRequest, "only the query for loggedInServices is answered")
	}
	secrets, err := e.Secrets(r.Context(), site)
	if err != nil {
		// With status 200 the package returns an empty object, as it did for
		// a site without any connection.
		status, body = refuse(http.StatusOK, "the tokens of the site cannot be had now")
		return status, []byte(strings.Replace(string(body), `"data":null`, `"data":{"me":null}`, 1))
	}
	if secrets == nil {
		secrets = []json.RawMessage{}
	}
	type metadata struct {
		LoggedInServices []json.RawMessage `json:"loggedInServices"`
	}
	doc, err := json.Marshal(map[string]any{"data": map[string]any{"me": map[string]any{"serviceMetadata": metadata{secrets}}}})
	if err != nil {
		return refuse(http.StatusInternalServerError, "the answer could not be written")
	}
	e.log("getSecrets: answered with " + strconv.Itoa(len(secrets)) + " connections")
	return http.StatusOK, doc
}

func (e *Endpoint) log(line string) {
	if e.Log != nil {
		e.Log(line)
	}
}

// ErrToken says that a site token opens nothing: it is unknown, has ended, or was
// revoked.
var ErrToken = errors.New("the site token is not valid")
