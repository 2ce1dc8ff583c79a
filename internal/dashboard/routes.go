package dashboard

import (
	"embed"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/apiauth/apiauth/internal/loopback"
	"github.com/apiauth/apiauth/internal/secret"
)

//go:embed assets
var assets embed.FS

// maxForm is the largest form in bytes.
const maxForm = 256 << 10

// get answers with a page or a part of one.
func (s *Server) get(w http.ResponseWriter, r *http.Request, route string) {
	switch route {
	case "/enter":
		s.enter(w, r)
		return
	case "/style.css":
		asset(w, "text/css; charset=utf-8", "assets/style.css")
		return
	case "/page.js":
		asset(w, "text/javascript; charset=utf-8", "assets/page.js")
		return
	case "/icon.svg":
		asset(w, "image/svg+xml", "assets/icon.svg")
		return
	case "/live": // asked for by the script, and so no sign of a person
		s.live(w, r)
		return
	}
	var p view
	var err error
	q := r.URL.Query()
	switch route {
	case "/":
		p, err = s.connectionsView(r.Context(), q.Get("project"))
	case "/providers":
		p, err = s.providersView(r.Context(), q.Get("q"))
	case "/provider":
		p, err = s.providerView(r.Context(), q.Get("id"), q.Get("connection"))
	case "/disconnect":
		p, err = s.disconnectView(r.Context(), q.Get("connection"))
	case "/clients":
		p, err = s.clientsView(r.Context())
	case "/log":
		p, err = s.logView(r.Context())
	case "/leak":
		p = leakView{}
	default:
		loopback.Refuse(w, http.StatusNotFound)
		return
	}
	s.touch()
	if err != nil {
		p = problemView{err}
	}
	if p == nil {
		loopback.Refuse(w, http.StatusNotFound)
		return
	}
	send(w, "text/html; charset=utf-8", s.page(p, s.takeNotice()))
}

func asset(w http.ResponseWriter, kind, name string) {
	content, err := assets.ReadFile(name)
	if err != nil {
		loopback.Refuse(w, http.StatusNotFound)
		return
	}
	send(w, kind, content)
}

// live answers with the list of connections alone.
func (s *Server) live(w http.ResponseWriter, r *http.Request) {
	p, err := s.connectionsView(r.Context(), r.URL.Query().Get("project"))
	if err != nil || p == nil {
		loopback.Refuse(w, http.StatusServiceUnavailable)
		return
	}
	m := &markup{csrf: s.csrf}
	p.(connectionsView).list(m) //nolint:errcheck,forcetypeassert // it is what connectionsView returns
	send(w, "text/html; charset=utf-8", m.b.Bytes())
}

// post does what a form asks for. It needs the Origin, which Guard has compared,
// and the token of the form.
func (s *Server) post(w http.ResponseWriter, r *http.Request, route string) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/x-www-form-urlencoded" {
		loopback.Refuse(w, http.StatusUnsupportedMediaType)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if r.ParseForm() != nil {
		loopback.Refuse(w, http.StatusBadRequest)
		return
	}
	form := r.PostForm
	if r.Header.Get("Origin") == "" || !loopback.SameSecret(form.Get("csrf"), s.csrf) {
		loopback.Refuse(w, http.StatusForbidden)
		return
	}
	back := "./"
	var told []string
	switch route {
	case "/connect":
		err = s.work.Connect(r.Context(), order(form))
	case "/paste":
		err = s.work.Paste(form.Get("name"), secret.New(strings.TrimSpace(form.Get("address"))))
	case "/giveup":
		s.work.GiveUp(form.Get("name"))
	case "/disconnect":
		told, err = s.work.Disconnect(r.Context(), form.Get("name"))
	case "/client":
		back = "clients"
		told, err = s.work.SetClient(r.Context(), clientForm(form))
	case "/revoke":
		back = "leak"
		told, err = s.work.Revoke(r.Context(), secret.New(strings.TrimSpace(form.Get("token"))))
	default:
		loopback.Refuse(w, http.StatusNotFound)
		return
	}
	s.touch()
	s.tell(told, err)
	w.Header().Set("Location", back)
	w.WriteHeader(http.StatusSeeOther)
}

// order reads the form of a login. Scopes that the catalogue does not describe
// are typed into one field.
func order(form url.Values) Order {
	o := Order{
		Name: strings.TrimSpace(form.Get("name")), Provider: form.Get("provider"), Flow: form.Get("flow"),
		Expires: strings.TrimSpace(form.Get("expires")),
	}
	if typed := strings.TrimSpace(form.Get("key")); typed != "" {
		o.Key = secret.New(typed)
	}
	for _, scope := range append(slices.Clone(form["scope"]), strings.Fields(form.Get("more"))...) {
		if !slices.Contains(o.Scopes, scope) {
			o.Scopes = append(o.Scopes, scope)
		}
	}
	return o
}

func clientForm(form url.Values) ClientForm {
	f := ClientForm{
		Provider: form.Get("provider"), ID: strings.TrimSpace(form.Get("id")), Project: form.Get("project") != "",
		Variables: map[string]string{},
	}
	if typed := strings.TrimSpace(form.Get("secret")); typed != "" {
		f.Secret = secret.New(typed)
	}
	for name := range form {
		if v, ok := strings.CutPrefix(name, "var."); ok && form.Get(name) != "" {
			f.Variables[v] = strings.TrimSpace(form.Get(name))
		}
	}
	return f
}
