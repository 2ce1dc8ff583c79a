package sandbox

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// deviceAuthorization is RFC 8628 section 3.1.
func (s *Server) deviceAuthorization(w http.ResponseWriter, r *http.Request) {
	s.count(func(st *Stats) { st.DeviceRequests++ })
	form, e := readForm(r)
	if e != nil {
		writeRefusal(w, e)
		return
	}
	c, e := s.authenticate(r, form)
	if e != nil {
		writeRefusal(w, e)
		return
	}
	granted, known := parseScopes(form.Get("scope"))
	if !known {
		writeRefusal(w, refuse("invalid_scope", "a scope is unknown"))
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweep()
	if len(s.devices) >= maxPending {
		writeRefusal(w, &refusal{status: http.StatusServiceUnavailable, code: "temporarily_unavailable", desc: "too many devices wait"})
		return
	}
	deviceCode, err1 := s.random("sbx_dc_", 32)
	userCode, err2 := s.userCode()
	if err1 != nil || err2 != nil {
		writeRefusal(w, &refusal{status: http.StatusInternalServerError, code: "server_error", desc: "no random bytes"})
		return
	}
	d := &device{client: c, userCode: userCode, scopes: granted, created: s.now(), interval: s.opts.DeviceInterval}
	if s.opts.AutoApprove {
		d.account = accounts()[0]
	}
	s.devices[hashOf(deviceCode.Reveal())] = d
	writeJSON(w, http.StatusOK, map[string]any{
		"device_code":               deviceCode.Reveal(),
		"user_code":                 userCode,
		"verification_uri":          s.origin + "/device",
		"verification_uri_complete": s.origin + "/device?user_code=" + userCode,
		"expires_in":                int(deviceLife.Seconds()),
		"interval":                  int(max(time.Second, d.interval+time.Second-1).Seconds()),
	})
}

// userCode has 34 bits in letters that cannot be mistaken (RFC 8628 section
// 6.1). The caller holds mu.
func (s *Server) userCode() (string, error) {
	const letters = "BCDFGHJKLMNPQRSTVWXZ"
	b := make([]byte, 8)
	for i := 0; i < len(b); {
		if _, err := io.ReadFull(s.opts.Rand, b[i:i+1]); err != nil {
			return "", err
		}
		if b[i] >= 240 { // 240 is a multiple of 20: no letter is likelier
			continue
		}
		b[i] = letters[b[i]%20]
		i++
	}
	return string(b[:4]) + "-" + string(b[4:]), nil
}

// devicePage is the page where a person types the user code and agrees.
func (s *Server) devicePage(w http.ResponseWriter, r *http.Request) {
	typed := r.URL.Query().Get("user_code")
	if typed == "" {
		s.render(w, http.StatusOK, devicePage{})
		return
	}
	s.mu.Lock()
	d := s.deviceByUserCode(typed)
	if d == nil {
		s.mu.Unlock()
		s.render(w, http.StatusNotFound, devicePage{Unknown: true})
		return
	}
	session, err1 := s.session(r)
	csrf, err2 := s.random("", 16)
	if err1 != nil || err2 != nil {
		s.mu.Unlock()
		s.forbidden(w)
		return
	}
	d.session, d.csrf = session, csrf.Reveal()
	page := consentPage{
		Action: "/device/decision", ID: d.userCode, CSRF: d.csrf, Client: d.client.name, Device: true,
		UserCode: d.userCode, Scopes: describe(d.scopes), Accounts: accounts(), Chosen: accounts()[0].Login,
	}
	s.mu.Unlock()
	s.setSession(w, session, "/device")
	s.render(w, http.StatusOK, page)
}

func (s *Server) deviceDecide(w http.ResponseWriter, r *http.Request) {
	form, ok := s.personsForm(w, r)
	if !ok {
		return
	}
	a := accountNamed(form.Get("account"))
	s.mu.Lock()
	d := s.deviceByUserCode(form.Get("id"))
	valid := d != nil && s.sameSession(r, d.session) && equal(form.Get("csrf"), d.csrf)
	approved := valid && form.Get("decision") == "approve" && a != nil
	if valid {
		d.csrf = ""
		if approved {
			d.account = a
		} else {
			d.denied = true
		}
	}
	s.mu.Unlock()
	switch {
	case !valid:
		s.forbidden(w)
	case approved:
		s.render(w, http.StatusOK, message{"Access granted", "You can close this page and go back to your device."})
	default:
		s.render(w, http.StatusOK, message{"Access refused", "The device gets no access. You can close this page."})
	}
}

// deviceByUserCode finds a device that waits for an answer. Letter case and
// separators do not count. The caller holds mu.
func (s *Server) deviceByUserCode(typed string) *device {
	plain := func(c string) string {
		return strings.Map(func(r rune) rune {
			if r == '-' || r == ' ' {
				return -1
			}
			return r
		}, strings.ToUpper(c))
	}
	want := plain(typed)
	for _, d := range s.devices {
		if plain(d.userCode) == want && d.account == nil && !d.denied && s.now().Sub(d.created) < deviceLife {
			return d
		}
	}
	return nil
}

// pollDevice is one poll (RFC 8628 section 3.5). The caller holds mu.
func (s *Server) pollDevice(c *client, form url.Values) (*family, *refusal) {
	s.stats.DevicePolls++
	d := s.devices[hashOf(form.Get("device_code"))]
	now := s.now()
	switch {
	case form.Get("device_code") == "":
		return nil, refuse("invalid_request", "device_code is missing")
	case d == nil || d.client != c || d.used:
		return nil, refuse("invalid_grant", "the device code is unknown or was used")
	case now.Sub(d.created) >= deviceLife:
		return nil, refuse("expired_token", "the device code expired")
	}
	// A tenth of a second is forgiven: clocks of timers differ that much.
	early := !d.lastPoll.IsZero() && now.Sub(d.lastPoll) < d.interval-100*time.Millisecond
	d.lastPoll = now
	if s.fires("device-slow-down", false) || early {
		d.interval += 5 * time.Second
		s.stats.SlowDowns++
		return nil, refuse("slow_down", "poll less often")
	}
	switch {
	case d.denied:
		return nil, refuse("access_denied", "the person refused")
	case d.account == nil:
		return nil, refuse("authorization_pending", "the person has not answered yet")
	}
	d.used = true
	return &family{client: c, account: d.account, scopes: d.scopes}, nil
}
